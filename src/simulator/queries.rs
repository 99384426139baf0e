//! The backend's own queries (`_system/…`) that clients ask over HTTP and over the web socket.

use serde_json::{Map, Value, json};

use super::auth::KeyHolder;
use super::info::Destination;
use super::state::SimulatorState;
use super::{documents, environment, export, import};

/// Answers a query, or says why not.
pub(super) fn answer(app: &SimulatorState, caller: KeyHolder, path: &str, args: &Value) -> Result<Value, String> {
    let name = path.strip_suffix(":default").unwrap_or(path).replace(".js", "");
    let Some(name) = name.strip_prefix("_system/") else {
        return Err(format!("this simulator runs no functions, so there is no `{path}`"));
    };
    if !caller.can_read() {
        return Err("the backend's own queries need an admin key".to_owned());
    }
    let args = first(args);
    let known = match name {
        "cli/queryEnvironmentVariables" => app.data.with(environment::documents),
        "cli/queryEnvironmentVariables:get" => {
            let name = text(&args, "name")?;
            app.data.with(|connection| environment::document(connection, name))
        }
        "cli/exports:getLatest" => export::latest(app),
        "cli/queryImport" => import::document(app, text(&args, "importId")?),
        "cli/queryImport:list" => import::list(app),
        "cli/modules:apiSpec" | "frontend/components:list" => Ok(json!([])),
        "cli/convexUrl:cloudUrl" => app.canonical_url(Destination::ConvexCloud).map(Value::from),
        "cli/convexUrl:siteUrl" => app.canonical_url(Destination::ConvexSite).map(Value::from),
        "frontend/deploymentState:deploymentState" => {
            app.is_paused().map(|paused| json!({ "state": if paused { "paused" } else { "running" } }))
        }
        "cli/tables" => {
            let page = Page::read(&args)?;
            app.data.with(documents::tables).map(|names| {
                let names = names.into_iter().skip(page.skip as usize).map(|name| json!({ "name": name })).collect();
                page.cut(names)
            })
        }
        "cli/tableData" => {
            let page = Page::read(&args)?;
            let table = text(&args, "table")?;
            let newest_first = args.get("order").and_then(Value::as_str) == Some("desc");
            // One more than asked for tells whether there is another page.
            let limit = page.limit.saturating_add(1);
            let found = app.data.with(|connection| documents::page(connection, table, newest_first, page.skip, limit));
            found.map(|documents| page.cut(documents))
        }
        "cli/tableSize" => {
            let table = text(&args, "tableName")?;
            app.data.with(|connection| documents::count(connection, table)).map(|count| json!(count as f64))
        }
        _ => return Err(format!("this simulator does not know the query `{path}`")),
    };
    known.map_err(|error| format!("the simulator's database failed: {error}"))
}

/// Arguments come as an object, or as an array of just one.
fn first(args: &Value) -> Map<String, Value> {
    match args {
        Value::Object(fields) => fields.clone(),
        Value::Array(values) => values.first().and_then(Value::as_object).cloned().unwrap_or_default(),
        _ => Map::new(),
    }
}

fn text<'a>(args: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    args.get(name).and_then(Value::as_str).ok_or_else(|| format!("the arguments need a text `{name}`"))
}

/// A part of a list. The cursor is how much of it has been seen.
struct Page {
    skip: u64,
    limit: u64,
}

impl Page {
    fn read(args: &Map<String, Value>) -> Result<Self, String> {
        let options =
            args.get("paginationOpts").and_then(Value::as_object).ok_or("the arguments need an object `paginationOpts`")?;
        let skip = match options.get("cursor") {
            None | Some(Value::Null) => 0,
            Some(cursor) => cursor.as_str().and_then(|text| text.parse().ok()).ok_or("`cursor` is not one of ours")?,
        };
        let limit = options.get("numItems").and_then(Value::as_f64).ok_or("`paginationOpts` needs a number `numItems`")?;
        Ok(Self { skip, limit: limit.clamp(0.0, 1e6) as u64 })
    }

    /// Makes a page of all that follows, or of as much as to see that more follows.
    fn cut(&self, mut values: Vec<Value>) -> Value {
        let is_done = values.len() as u64 <= self.limit;
        values.truncate(self.limit as usize);
        let seen = self.skip + values.len() as u64;
        json!({ "page": values, "isDone": is_done, "continueCursor": seen.to_string() })
    }
}

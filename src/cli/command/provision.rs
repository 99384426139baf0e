//! `convexinfra provision` and `deprovision`: one backend in one step, for programs.
//!
//! Must not do: rewrite more of the manifest than the one block, or print a key that nobody asked for.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use super::apply::Applying;
use crate::cli::args::{Consent, Deprovision as DeprovisionArgs, Provision as ProvisionArgs};
use crate::cli::context::{Context, Loaded};
use crate::cli::failure::Failure;
use crate::control::KeyNeed;
use crate::manifest::{EditError, FieldText, add_backend, remove_backend};
use crate::model::{BackendName, Exit, Finding};
use crate::plan::{Intent, Scope};

/// Adds the backend to the manifest if it is not there, brings it about, and prints where it is.
pub(super) async fn provision(context: &Context, args: &ProvisionArgs) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    if !loaded.desired.backends.contains_key(&args.name) {
        let mut fields = Vec::new();
        let given = [
            ("provider", &args.provider),
            ("release", &args.release),
            ("region", &args.region),
            ("ttl", &args.ttl),
            ("env_file", &args.env_file),
        ];
        for (key, value) in given {
            fields.extend(value.as_ref().map(|value| (key.to_owned(), FieldText::Text(value.clone()))));
        }
        edit(&loaded, |text| add_backend(text, args.name.as_str(), &fields))?;
    }
    let exit = apply_one(context, &args.name, false, Vec::new()).await?;
    if exit != Exit::Done {
        return Ok(exit);
    }
    report(context, args).await?;
    Ok(exit)
}

/// Takes the backend away with its data, and out of the manifest.
pub(super) async fn deprovision(context: &Context, args: &DeprovisionArgs) -> Result<Exit, Failure> {
    let exit = apply_one(context, &args.name, true, args.allow_destroy.clone()).await?;
    let loaded = context.load()?;
    if exit == Exit::Done {
        if loaded.desired.backends.contains_key(&args.name) {
            edit(&loaded, |text| remove_backend(text, args.name.as_str()))?;
        }
        context.printer.result(&format!("`{}` is gone\n", args.name));
        context.printer.reply("convexinfra.deprovision/1", serde_json::json!({ "name": args.name, "state": "absent" }));
    }
    Ok(exit)
}

/// Writes the manifest anew, if what comes out is a manifest still.
fn edit(loaded: &Loaded, change: impl FnOnce(&str) -> Result<String, EditError>) -> Result<(), Failure> {
    let failed = |message: String| Failure::new(Exit::Manifest, Finding::new("manifest.not_edited", message));
    let text = change(&loaded.text).map_err(|error| failed(error.to_string()))?;
    if let Err(problems) = crate::manifest::parse(&text, None) {
        return Err(Failure::Manifest { problems, text, file: format!("{} (as it would be)", loaded.path.display()) });
    }
    let cannot = |error: std::io::Error| failed(format!("`{}` could not be written: {error}", loaded.path.display()));
    let path = loaded.path.canonicalize().map_err(cannot)?;
    let folder = path.parent().unwrap_or(&loaded.folder);
    let mut file = tempfile::Builder::new().prefix(".convex.toml.").tempfile_in(folder).map_err(cannot)?;
    if let Ok(metadata) = fs::metadata(&path) {
        fs::set_permissions(file.path(), metadata.permissions()).map_err(cannot)?;
    }
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(cannot)?;
    if fs::read_to_string(&path).map_err(cannot)? != loaded.text {
        return Err(failed(format!("`{}` was changed by somebody else meanwhile; run the same command again", path.display())));
    }
    file.persist(&path).map(drop).map_err(|error| cannot(error.error))
}

async fn apply_one(
    context: &Context,
    name: &BackendName,
    destroy: bool,
    allow_destroy: Vec<BackendName>,
) -> Result<Exit, Failure> {
    // The one document of this command is its result; the events of the apply are talk.
    let quiet = context.without_documents();
    let (loaded, values) = quiet.load_with_secrets(KeyNeed::IfThere).await?;
    let intent = Intent { scope: Scope::Only(BTreeSet::from([name.clone()])), destroy, take_over: false };
    let consent = Consent { yes: true, allow_destroy, parallelism: 64 };
    Applying { context: &quiet, loaded: &loaded, values: &values, consent: &consent, saved: None }.run(&intent).await
}

async fn report(context: &Context, args: &ProvisionArgs) -> Result<(), Failure> {
    let loaded = context.load()?;
    let control = context.control(Some(&loaded.desired))?;
    let project = &loaded.desired.project;
    let backend = loaded.desired.backends.get(&args.name);
    let env_file = backend.and_then(|backend| backend.env_file.as_ref()).map(|target| loaded.folder.join(&target.path));
    // Programs may run somewhere else.
    let env_file = env_file.map(|path| std::path::absolute(&path).unwrap_or(path));
    let mut document = serde_json::json!({ "name": args.name });
    if backend.is_some_and(|backend| backend.spec.is_record_only()) {
        document["state"] = "recorded".into();
    } else {
        let credentials = control.credentials(project, &args.name).await?;
        document["url"] = credentials.url.into();
        document["site_url"] = credentials.site_url.into();
        document["state"] = "ready".into();
        document["env_file"] = env_file.map(|path| path.display().to_string()).into();
        if args.show_key {
            document["admin_key"] = credentials.admin_key.expose().into();
            if !context.printer.is_json() {
                context.printer.result(&format!("{}\n", credentials.admin_key.expose()));
            }
        }
    }
    context.printer.reply("convexinfra.provision/1", document);
    Ok(())
}

//! The contract as an OpenAPI 3.1 document, made of the table of endpoints and of the types themselves.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::api::endpoint::{Endpoint, ParamKind, RequiredScope, ResponseContent, ResponseSpec};
use crate::api::endpoints::ALL;
use crate::api::wire::{ErrorDocument, FENCE, REQUEST_ID};

/// Makes the OpenAPI document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let error = generator.subschema_for::<ErrorDocument>();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for endpoint in ALL {
        let item = paths.entry(endpoint.path).or_default();
        item.insert(endpoint.method.as_str().to_lowercase(), operation(endpoint, &mut generator));
    }
    let problem = |status: u16| (error_name(status).to_owned(), error_response(status, &error));
    let responses: BTreeMap<String, Value> = ERROR_RESPONSES.iter().map(|(status, ..)| problem(*status)).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "convexinfra control plane",
            "version": "1",
            "summary": "One authority over the self-hosted Convex backends of a team.",
            "description": "Every status from 400 up carries the same error document. Additions keep the version of the paths.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": responses,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token of `convexinfra token create`." },
            },
        },
    })
}

/// What each status of a problem means.
const ERROR_RESPONSES: [(u16, &str, &str); 13] = [
    (400, "BadRequest", "The request is not one of this version."),
    (401, "NotAuthenticated", "The token is missing, unknown, expired or revoked."),
    (403, "NotAuthorised", "The token does not allow this; the document says what is missing."),
    (404, "NotFound", "There is no such thing."),
    (408, "TooSlow", "The body did not arrive in time."),
    (409, "Conflict", "Somebody else holds the lease, it was lost, or what is asked for is not ready."),
    (413, "TooLarge", "The body is too large."),
    (415, "NotJson", "The body is not JSON."),
    (422, "Refused", "The answer is no: protection, a quota, or something else that the document names."),
    (429, "TooOften", "The token asks too often; `Retry-After` says when to come again."),
    (431, "HeadTooLarge", "The head of the request is too large. This one alone has no body."),
    (500, "Bug", "Something in the control plane is wrong."),
    (503, "Unavailable", "It cannot answer now; asking again later may work."),
];

fn error_name(status: u16) -> &'static str {
    ERROR_RESPONSES.iter().find(|(known, ..)| *known == status).map_or("Problem", |(_, name, _)| name)
}

fn error_response(status: u16, error: &Schema) -> Value {
    let means = ERROR_RESPONSES.iter().find(|(known, ..)| *known == status).map_or("", |(.., means)| means);
    let mut problem = json!({ "description": means });
    if status != 431 {
        problem["content"] = json!({ "application/json": { "schema": error } });
        problem["headers"] = headers(status);
    }
    problem
}

fn headers(status: u16) -> Value {
    let text = json!({ "type": "string" });
    let mut headers = json!({ REQUEST_ID: { "description": "The request, as the log names it.", "schema": text } });
    match status {
        401 => headers["WWW-Authenticate"] = json!({ "description": "Always `Bearer`.", "schema": text }),
        429 => {
            headers["Retry-After"] = json!({ "description": "In how many seconds.", "schema": { "type": "integer" } });
        }
        _ => {}
    }
    headers
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for answer in endpoint.responses() {
        responses.insert(answer.status.to_string(), response(answer, generator));
    }
    for status in endpoint.error_statuses() {
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{}", error_name(status)) }));
    }
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "description": scope_description(endpoint.scope),
        "responses": responses,
    });
    let parameters = parameters(endpoint);
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(shape) = endpoint.body {
        let content = json!({ "application/json": { "schema": shape(generator) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    if endpoint.scope == RequiredScope::Public {
        operation["security"] = json!([]);
    }
    operation
}

fn scope_description(access: RequiredScope) -> String {
    match access {
        RequiredScope::Public => "Needs no token.".to_owned(),
        RequiredScope::AnyToken => "Needs a token of any scope.".to_owned(),
        RequiredScope::Project(scope) => format!("Needs the scope `{scope}` in the project."),
        RequiredScope::Operator => "Needs an operator's token.".to_owned(),
    }
}

fn response(answer: &ResponseSpec, generator: &mut SchemaGenerator) -> Value {
    let mut response = json!({ "description": answer.description, "headers": headers(answer.status) });
    match answer.content {
        ResponseContent::Empty => {}
        ResponseContent::Json(shape) => response["content"] = json!({ "application/json": { "schema": shape(generator) } }),
        // The schema is that of the `data` of one event, which OpenAPI 3.1 has no place for.
        ResponseContent::Events(shape) => {
            let event = shape(generator);
            response["content"] = json!({ "text/event-stream": { "schema": { "type": "string" }, "x-event": event } });
        }
    }
    response
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let mut parameters: Vec<Value> = endpoint.path_params().map(path_parameter).collect();
    for key in endpoint.query {
        parameters.push(json!({
            "name": key.name, "in": "query", "required": false, "description": key.description,
            "schema": match key.kind {
                ParamKind::Number { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
                ParamKind::Line { most } => json!({ "type": "string", "minLength": 1, "maxLength": most }),
                ParamKind::Hash => json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" }),
            },
        }));
    }
    if endpoint.fenced {
        parameters.push(json!({
            "name": FENCE, "in": "header", "required": true,
            "description": "The fence of the lease; an older one than the newest changes nothing: 409.",
            "schema": { "type": "integer", "minimum": 0 },
        }));
    }
    for (name, means) in endpoint.headers {
        let schema = json!({ "type": "string" });
        parameters.push(json!({ "name": name, "in": "header", "required": false, "description": means, "schema": schema }));
    }
    parameters
}

fn path_parameter(name: &str) -> Value {
    let schema = match name {
        "project" | "backend" => json!({
            "type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$", "maxLength": crate::model::NAME_MAX,
        }),
        _ => json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

//! The description of an endpoint: method, path, required scope, parameters, request, responses and errors.
//!
//! Kept by hand rather than with `utoipa-axum` or `aide`: these bind a description to an axum handler, while the client,
//! the Worker and the tests read the table without a server.

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::model::Scope;

/// Names the token that an endpoint requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredScope {
    /// No token.
    Public,
    /// A token of any scope.
    AnyToken,
    /// A token with this scope in the project that the path names.
    Project(Scope),
    /// A token of an operator.
    Operator,
}

/// The method of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMethod {
    /// Reads.
    Get,
    /// Creates, or starts.
    Post,
    /// Sets.
    Put,
    /// Removes.
    Delete,
}

impl HttpMethod {
    /// Returns the method as HTTP writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// Generates the schema of a document.
pub type SchemaFn = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The content of a response.
#[derive(Debug, Clone, Copy)]
pub enum ResponseContent {
    /// No body.
    Empty,
    /// One JSON document.
    Json(SchemaFn),
    /// Server-sent events, each with a JSON document.
    Events(SchemaFn),
}

/// One successful response of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct ResponseSpec {
    /// The status, below 400.
    pub status: u16,
    /// What it means.
    pub description: &'static str,
    /// What its body is.
    pub content: ResponseContent,
}

/// One optional parameter of a query.
#[derive(Debug, Clone, Copy)]
pub struct QueryParam {
    /// Its name.
    pub name: &'static str,
    /// What it means, and what holds when it is left out.
    pub description: &'static str,
    /// Which values it takes.
    pub kind: ParamKind,
}

/// The values that a parameter of a query takes.
#[derive(Debug, Clone, Copy)]
pub enum ParamKind {
    /// A whole number within these bounds.
    Number {
        /// The lowest.
        least: u64,
        /// The highest.
        most: u64,
    },
    /// A hash: 64 hex digits in lower case.
    Hash,
    /// One line of text.
    Line {
        /// The most bytes.
        most: usize,
    },
}

/// One path with one method.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// Its method.
    pub method: HttpMethod,
    /// Its path, with names in braces, such as `/v1/projects/{project}`.
    pub path: &'static str,
    /// Its name in the OpenAPI document, as generated clients use it.
    pub id: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// The token that it requires.
    pub scope: RequiredScope,
    /// The parameters of its query.
    pub query: &'static [QueryParam],
    /// Whether it writes under a lease, whose fence it requires in a header.
    pub fenced: bool,
    /// Other headers that it reads, each with its meaning.
    pub headers: &'static [(&'static str, &'static str)],
    /// The schema of the document in its body; none when it reads no body.
    pub body: Option<SchemaFn>,
    /// Its successful responses.
    responses: [Option<ResponseSpec>; 2],
    /// The statuses of its own errors; those that follow from the other fields are left out.
    errors: &'static [u16],
}

impl Endpoint {
    const fn new(
        method: HttpMethod,
        id: &'static str,
        path: &'static str,
        scope: RequiredScope,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            scope,
            query: &[],
            fenced: false,
            headers: &[],
            body: None,
            responses: [None, None],
            errors: &[],
        }
    }

    pub(super) const fn get(id: &'static str, path: &'static str, scope: RequiredScope, summary: &'static str) -> Self {
        Self::new(HttpMethod::Get, id, path, scope, summary)
    }

    pub(super) const fn post(id: &'static str, path: &'static str, scope: RequiredScope, summary: &'static str) -> Self {
        Self::new(HttpMethod::Post, id, path, scope, summary)
    }

    pub(super) const fn put(id: &'static str, path: &'static str, scope: RequiredScope, summary: &'static str) -> Self {
        Self::new(HttpMethod::Put, id, path, scope, summary)
    }

    pub(super) const fn delete(id: &'static str, path: &'static str, scope: RequiredScope, summary: &'static str) -> Self {
        Self::new(HttpMethod::Delete, id, path, scope, summary)
    }

    /// Adds parameters of the query.
    pub(super) const fn with_query(self, query: &'static [QueryParam]) -> Self {
        Self { query, ..self }
    }

    /// Adds headers that are read.
    pub(super) const fn with_headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    /// Requires the fence of a lease.
    pub(super) const fn fenced(self) -> Self {
        Self { fenced: true, ..self }
    }

    /// Adds a document in the body of the request.
    pub(super) const fn with_body<T: JsonSchema>(self) -> Self {
        Self { body: Some(schema_of::<T>), ..self }
    }

    /// Adds a response with a JSON document.
    pub(super) const fn responds<T: JsonSchema>(self, status: u16, description: &'static str) -> Self {
        self.with_response(ResponseSpec { status, description, content: ResponseContent::Json(schema_of::<T>) })
    }

    /// Adds a response without a body.
    pub(super) const fn responds_empty(self, status: u16, description: &'static str) -> Self {
        self.with_response(ResponseSpec { status, description, content: ResponseContent::Empty })
    }

    /// Adds a response that streams events.
    pub(super) const fn responds_events<T: JsonSchema>(self, description: &'static str) -> Self {
        self.with_response(ResponseSpec { status: 200, description, content: ResponseContent::Events(schema_of::<T>) })
    }

    const fn with_response(mut self, response: ResponseSpec) -> Self {
        self.responses = match self.responses {
            [None, _] => [Some(response), None],
            [first, _] => [first, Some(response)],
        };
        self
    }

    /// Adds statuses of errors.
    pub(super) const fn with_errors(self, errors: &'static [u16]) -> Self {
        Self { errors, ..self }
    }

    /// Returns the successful responses.
    pub fn responses(&self) -> impl Iterator<Item = &ResponseSpec> {
        self.responses.iter().flatten()
    }

    /// Returns the names in the path, such as `project`, in order.
    pub fn path_params(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(param_name)
    }

    /// Returns the segments of the path, with these values in the place of its names. Values are not encoded.
    pub fn path_segments<'a>(&self, values: &[&'a str]) -> Vec<&'a str>
    where
        'static: 'a,
    {
        let mut values = values.iter();
        let segments = self.path.split('/').skip(1);
        segments.map(|segment| if param_name(segment).is_some() { values.next().unwrap_or(&"") } else { segment }).collect()
    }

    /// Returns every status from 400 up that the endpoint responds with.
    pub fn error_statuses(&self) -> BTreeSet<u16> {
        // Those of hyper and of the layers around every endpoint: a head that is too large, a bug, a timeout, no store.
        let mut statuses: BTreeSet<u16> = [400, 431, 500, 503].into();
        statuses.extend(self.errors);
        if self.scope != RequiredScope::Public {
            statuses.extend([401, 403, 429]);
        }
        if self.fenced {
            statuses.insert(409);
        }
        if self.body.is_some() {
            statuses.extend([408, 413, 415, 422]);
        }
        statuses
    }
}

fn param_name(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

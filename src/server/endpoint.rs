//! What a route is: its path, who may ask, what it reads, and what can come back.
//!
//! Must not do: handle a request.

use std::sync::Arc;

use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::ApiServer;
use crate::model::Scope;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequiredScope {
    /// Anybody, without a token.
    Public,
    /// Whoever has a good token.
    AnyToken,
    /// Whoever has this scope in the project that the path names.
    Project(Scope),
    /// An operator.
    Operator,
}

/// The schema of a document.
pub(super) type SchemaFn = fn(&mut SchemaGenerator) -> Schema;

/// The schema of a type.
pub(super) fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What an answer is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum ResponseContent {
    /// Nothing but its head.
    Empty,
    /// One JSON document.
    Json(SchemaFn),
    /// Server-sent events, each with a JSON document.
    Events(SchemaFn),
}

/// One answer of a route when all is well.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResponseSpec {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) content: ResponseContent,
}

/// One key that a query may have: a whole number.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryParam {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) kind: ParamKind,
}

/// What stands behind a key of a query.
#[derive(Debug, Clone, Copy)]
pub(super) enum ParamKind {
    /// A number within these bounds.
    Number { least: u64, most: u64 },
    /// A hash: 64 hex digits.
    Hash,
    /// One line of at most so many bytes.
    Line { most: usize },
}

/// The methods that routes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

impl Verb {
    /// The method as OpenAPI writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }
}

/// One path with one method.
pub(super) struct Endpoint {
    pub(super) verb: Verb,
    pub(super) path: &'static str,
    /// Its name in the OpenAPI document.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) access: RequiredScope,
    pub(super) query: &'static [QueryParam],
    /// Whether it writes under a lease, whose fence it wants to see.
    pub(super) fenced: bool,
    /// Other headers that it reads, each with what it is for.
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) body: Option<SchemaFn>,
    pub(super) answers: Vec<ResponseSpec>,
    /// The statuses of its own problems; those that follow from the rest are known.
    pub(super) error_codes: &'static [u16],
    pub(super) handler: MethodRouter<Arc<ApiServer>>,
}

impl Endpoint {
    /// A route that nothing is known of yet but where it is and who may ask.
    pub(super) fn new(verb: Verb, path: &'static str, id: &'static str, access: RequiredScope, summary: &'static str) -> Self {
        Self {
            verb,
            path,
            id,
            summary,
            access,
            query: &[],
            fenced: false,
            headers: &[],
            body: None,
            answers: Vec::new(),
            error_codes: &[],
            handler: MethodRouter::new(),
        }
    }

    /// The same, with these keys in its query.
    pub(super) fn with_query(self, query: &'static [QueryParam]) -> Self {
        Self { query, ..self }
    }

    /// The same, reading these headers too.
    pub(super) fn with_headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    /// The same, writing under a lease.
    pub(super) fn fenced(self) -> Self {
        Self { fenced: true, ..self }
    }

    /// The same, with a document in its body.
    pub(super) fn with_body<T: JsonSchema>(self) -> Self {
        Self { body: Some(schema_of::<T>), ..self }
    }

    /// The same, with one more answer.
    pub(super) fn answers<T: JsonSchema>(self, status: u16, means: &'static str) -> Self {
        self.with_response(ResponseSpec { status, description: means, content: ResponseContent::Json(schema_of::<T>) })
    }

    /// The same, with an answer that has no body.
    pub(super) fn responds_empty(self, means: &'static str) -> Self {
        self.with_response(ResponseSpec { status: 204, description: means, content: ResponseContent::Empty })
    }

    /// The same, with an answer that goes on.
    pub(super) fn responds_events<T: JsonSchema>(self, means: &'static str) -> Self {
        self.with_response(ResponseSpec { status: 200, description: means, content: ResponseContent::Events(schema_of::<T>) })
    }

    fn with_response(mut self, answer: ResponseSpec) -> Self {
        self.answers.push(answer);
        self
    }

    /// The same, with problems of its own.
    pub(super) fn with_errors(self, problems: &'static [u16]) -> Self {
        Self { error_codes: problems, ..self }
    }

    /// The same, and who handles it.
    pub(super) fn handled_by(self, handler: MethodRouter<Arc<ApiServer>>) -> Self {
        Self { handler, ..self }
    }

    /// The names in its path, such as `project`.
    pub(super) fn path_params(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Every status of a problem that it can answer with.
    pub(super) fn error_statuses(&self) -> std::collections::BTreeSet<u16> {
        // What hyper and the layers around every route say: a head that is too large, a bug, no time or no store.
        let mut statuses: std::collections::BTreeSet<u16> = [400, 431, 500, 503].into();
        statuses.extend(self.error_codes);
        if self.access != RequiredScope::Public {
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

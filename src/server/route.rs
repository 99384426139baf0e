//! What a route is: its path, who may ask, what it reads, and what can come back.
//!
//! Must not do: handle a request.

use std::sync::Arc;

use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Server;
use crate::model::Scope;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody, without a token.
    Anybody,
    /// Whoever has a good token.
    Token,
    /// Whoever has this scope in the project that the path names.
    Project(Scope),
    /// An operator.
    Operator,
}

/// The schema of a document.
pub(super) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// The schema of a type.
pub(super) fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What an answer is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    /// Nothing but its head.
    Nothing,
    /// One JSON document.
    Json(Shape),
    /// Server-sent events, each with a JSON document.
    Events(Shape),
}

/// One answer of a route when all is well.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) means: &'static str,
    pub(super) content: Content,
}

/// One key that a query may have: a whole number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) means: &'static str,
    pub(super) takes: Takes,
}

/// What stands behind a key of a query.
#[derive(Debug, Clone, Copy)]
pub(super) enum Takes {
    /// A number within these bounds.
    Number { least: u64, most: u64 },
    /// A hash: 64 hex digits.
    Hash,
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
pub(super) struct Route {
    pub(super) verb: Verb,
    pub(super) path: &'static str,
    /// Its name in the OpenAPI document.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) access: Access,
    pub(super) query: &'static [Key],
    /// Whether it writes under a lease, whose fence it wants to see.
    pub(super) fenced: bool,
    /// Other headers that it reads, each with what it is for.
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) body: Option<Shape>,
    pub(super) answers: Vec<Answer>,
    /// The statuses of its own problems; those that follow from the rest are known.
    pub(super) problems: &'static [u16],
    pub(super) handler: MethodRouter<Arc<Server>>,
}

impl Route {
    /// A route that nothing is known of yet but where it is and who may ask.
    pub(super) fn new(verb: Verb, path: &'static str, id: &'static str, access: Access, summary: &'static str) -> Self {
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
            problems: &[],
            handler: MethodRouter::new(),
        }
    }

    /// The same, with these keys in its query.
    pub(super) fn asks(self, query: &'static [Key]) -> Self {
        Self { query, ..self }
    }

    /// The same, reading these headers too.
    pub(super) fn hears(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    /// The same, writing under a lease.
    pub(super) fn fenced(self) -> Self {
        Self { fenced: true, ..self }
    }

    /// The same, with a document in its body.
    pub(super) fn reads<T: JsonSchema>(self) -> Self {
        Self { body: Some(shape::<T>), ..self }
    }

    /// The same, with one more answer.
    pub(super) fn answers<T: JsonSchema>(self, status: u16, means: &'static str) -> Self {
        self.also(Answer { status, means, content: Content::Json(shape::<T>) })
    }

    /// The same, with an answer that has no body.
    pub(super) fn answers_nothing(self, means: &'static str) -> Self {
        self.also(Answer { status: 204, means, content: Content::Nothing })
    }

    /// The same, with an answer that goes on.
    pub(super) fn answers_events<T: JsonSchema>(self, means: &'static str) -> Self {
        self.also(Answer { status: 200, means, content: Content::Events(shape::<T>) })
    }

    fn also(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// The same, with problems of its own.
    pub(super) fn may_fail(self, problems: &'static [u16]) -> Self {
        Self { problems, ..self }
    }

    /// The same, and who handles it.
    pub(super) fn by(self, handler: MethodRouter<Arc<Server>>) -> Self {
        Self { handler, ..self }
    }

    /// The names in its path, such as `project`.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Every status of a problem that it can answer with.
    pub(super) fn statuses(&self) -> std::collections::BTreeSet<u16> {
        // What hyper and the layers around every route say: a head that is too large, a bug, no time or no store.
        let mut statuses: std::collections::BTreeSet<u16> = [400, 431, 500, 503].into();
        statuses.extend(self.problems);
        if self.access != Access::Anybody {
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

//! The S3 service that a backend keeps its files in that something else started. Pure.

use std::collections::BTreeMap;

use super::{ImportConflict, conflict};
use crate::convex::buckets::{PARTS, bucket_name};
use crate::model::{BucketNames, FieldPath, S3Files, Secret, TextValue};

/// The S3 service that an external backend keeps its files in.
#[derive(Debug, Clone, Default)]
pub struct ExternalS3 {
    /// The buckets of the five parts, in the order of [`PARTS`].
    pub(crate) buckets: [String; 5],
    pub(crate) region: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) path_style: bool,
    pub(crate) access_key_id: Option<Secret>,
    pub(crate) secret_access_key: Option<Secret>,
}

impl ExternalS3 {
    /// Reads its variables. The official image takes S3 where all six are set, and the volume otherwise.
    pub(crate) fn read(given: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let mut buckets: [String; 5] = Default::default();
        for (bucket, (variable, _)) in buckets.iter_mut().zip(PARTS) {
            *bucket = given(variable)?;
        }
        Some(Self {
            buckets,
            region: given("AWS_REGION")?,
            endpoint: given("S3_ENDPOINT_URL"),
            path_style: given("AWS_S3_FORCE_PATH_STYLE").as_deref() == Some("true"),
            access_key_id: given("AWS_ACCESS_KEY_ID").map(Secret::new),
            secret_access_key: given("AWS_SECRET_ACCESS_KEY").map(Secret::new),
        })
    }

    /// Returns the variables that name buckets in vain, each with what is missing: the files of such a container are in its volume.
    pub(crate) fn without_effect(given: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let variables = || PARTS.into_iter().map(|(variable, _)| variable);
        let Some(missing) = variables().chain(["AWS_REGION"]).find(|name| given(name).is_none()) else { return Vec::new() };
        let set = variables().filter(|name| given(name).is_some());
        set.map(|name| format!("{name} without {missing}")).collect()
    }

    /// Returns what names these buckets in `files` of a manifest.
    fn bucket_line(&self) -> String {
        if self.buckets.iter().all(|bucket| *bucket == self.buckets[0]) {
            return format!("bucket = \"{}\"", self.buckets[0]);
        }
        let prefix = self.buckets[0].strip_suffix("-exports").map(|prefix| BucketNames::Prefix(prefix.to_owned()));
        if let Some(BucketNames::Prefix(text)) = &prefix
            && PARTS.map(|(_, part)| bucket_name(&BucketNames::Prefix(text.clone()), part)) == self.buckets
        {
            return format!("bucket_prefix = \"{text}\"");
        }
        let parts = PARTS.iter().zip(&self.buckets);
        let parts: Vec<String> =
            parts.map(|((_, part), bucket)| format!("{} = \"{bucket}\"", part.replace('-', "_"))).collect();
        format!("buckets = {{ {} }}", parts.join(", "))
    }

    /// Returns the line of a manifest that says the same.
    pub(super) fn manifest_line(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut parts = vec!["engine = \"s3\"".to_owned(), self.bucket_line(), format!("region = {}", quoted(&self.region))];
        parts.extend(self.endpoint.as_ref().map(|url| format!("endpoint = {}", quoted(url))));
        parts.extend(self.path_style.then(|| "path_style = true".to_owned()));
        for (key, variable, value) in [
            ("access_key_id", "AWS_ACCESS_KEY_ID", &self.access_key_id),
            ("secret_access_key", "AWS_SECRET_ACCESS_KEY", &self.secret_access_key),
        ] {
            parts.extend(value.as_ref().map(|_| format!("{key} = {{ env = \"{variable}\" }}")));
        }
        format!("files = {{ {} }}", parts.join(", "))
    }

    /// Compares the service with the one of the manifest, field by field.
    pub(super) fn check(&self, s3: &S3Files, secrets: &BTreeMap<FieldPath, Secret>) -> Result<(), ImportConflict> {
        let differs = |field: &str, there: &str, written: &str| {
            conflict(
                format!("it has {there} where `files.{field}` in the manifest is {written}"),
                "the files are where it has them: let the manifest say the same first",
            )
        };
        let named = PARTS.map(|(_, part)| bucket_name(&s3.buckets, part));
        if named != self.buckets {
            let (field, written) = match &s3.buckets {
                BucketNames::Single(name) => ("bucket", format!("`{name}`")),
                BucketNames::Prefix(prefix) => ("bucket_prefix", format!("`{prefix}`")),
                BucketNames::Named(_) => ("buckets", quoted_list(&named)),
            };
            let buckets =
                if self.buckets.iter().all(|bucket| *bucket == self.buckets[0]) { "the bucket" } else { "the buckets" };
            let there = format!("{buckets} {}", quoted_list(&self.buckets));
            let message = format!("it has {there} where `files.{field}` in the manifest is {written}");
            return Err(conflict(message, format!("the files are where it has them: write\n    {}", self.bucket_line())));
        }
        if self.region != s3.region {
            return Err(differs("region", &format!("the region `{}`", self.region), &format!("`{}`", s3.region)));
        }
        let slash = |url: &str| url.trim_end_matches('/').to_owned();
        let written = match &s3.endpoint {
            None => None,
            Some(TextValue::Literal(url)) => Some(url.clone()),
            // A value that is not at hand cannot be compared, and the caller refuses to go on without it.
            Some(TextValue::Reference(_)) => secrets.get(&FieldPath::new("files.endpoint")).map(|url| url.expose().to_owned()),
        };
        if self.endpoint.as_deref().map(slash) != written.as_deref().map(slash) {
            let shown = |url: &Option<String>| url.as_deref().map_or("none".to_owned(), |_| "another one".to_owned());
            return Err(differs("endpoint", &format!("an endpoint ({})", shown(&self.endpoint)), &shown(&written)));
        }
        if self.path_style != s3.path_style {
            return Err(differs(
                "path_style",
                &format!("`AWS_S3_FORCE_PATH_STYLE={}`", self.path_style),
                &format!("`{}`", s3.path_style),
            ));
        }
        for (field, there) in [("access_key_id", &self.access_key_id), ("secret_access_key", &self.secret_access_key)] {
            let written = secrets.get(&FieldPath::new(format!("files.{field}")));
            if there.as_ref().map(Secret::expose) != written.map(Secret::expose) {
                let there = if there.is_some() { "another value" } else { "no value" };
                return Err(differs(field, there, if written.is_some() { "set" } else { "not set" }));
            }
        }
        Ok(())
    }
}

fn quoted_list(names: &[String]) -> String {
    let mut quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.dedup();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SecretRef;

    fn written() -> (S3Files, BTreeMap<FieldPath, Secret>) {
        let reference = || SecretRef::Env("X".to_owned());
        let s3 = S3Files {
            buckets: BucketNames::Prefix("shop".to_owned()),
            region: "us-east-1".to_owned(),
            endpoint: Some(TextValue::Literal("http://minio:9000/".to_owned())),
            path_style: true,
            create_buckets: false,
            credentials: Some(crate::model::S3Credentials { access_key_id: reference(), secret_access_key: reference() }),
        };
        let secret = |field: &str, value: &str| (FieldPath::new(field), Secret::new(value));
        (s3, [secret("files.access_key_id", "id"), secret("files.secret_access_key", "key")].into())
    }

    fn read(more: &[(&str, &str)]) -> ExternalS3 {
        let mut variables: BTreeMap<&str, &str> = [
            ("S3_STORAGE_EXPORTS_BUCKET", "shop-exports"),
            ("S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET", "shop-snapshot-imports"),
            ("S3_STORAGE_MODULES_BUCKET", "shop-modules"),
            ("S3_STORAGE_FILES_BUCKET", "shop-files"),
            ("S3_STORAGE_SEARCH_BUCKET", "shop-search"),
            ("AWS_REGION", "us-east-1"),
            ("S3_ENDPOINT_URL", "http://minio:9000"),
            ("AWS_S3_FORCE_PATH_STYLE", "true"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "key"),
        ]
        .into();
        variables.extend(more.iter().copied());
        ExternalS3::read(|name| variables.get(name).filter(|value| !value.is_empty()).map(|value| (*value).to_owned())).unwrap()
    }

    #[test]
    fn buckets_that_the_image_does_not_take_are_named() {
        let ignored = |variables: &[&str]| ExternalS3::without_effect(|name| variables.contains(&name).then(|| "x".to_owned()));
        let all = [
            "S3_STORAGE_EXPORTS_BUCKET",
            "S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET",
            "S3_STORAGE_MODULES_BUCKET",
            "S3_STORAGE_FILES_BUCKET",
            "S3_STORAGE_SEARCH_BUCKET",
            "AWS_REGION",
        ];
        assert_eq!(ignored(&all), Vec::<String>::new());
        assert_eq!(ignored(&all[..5]).len(), 5);
        assert_eq!(ignored(&["S3_STORAGE_FILES_BUCKET"]), ["S3_STORAGE_FILES_BUCKET without S3_STORAGE_EXPORTS_BUCKET"]);
        assert_eq!(ignored(&["AWS_REGION"]), Vec::<String>::new());
    }

    #[test]
    fn files_in_other_buckets_are_a_move_and_no_import() {
        let (s3, secrets) = written();
        assert_eq!(read(&[]).check(&s3, &secrets), Ok(()));
        for (variable, value, field) in [
            ("S3_STORAGE_MODULES_BUCKET", "elsewhere", "files.bucket_prefix"),
            ("AWS_REGION", "eu-west-1", "files.region"),
            ("S3_ENDPOINT_URL", "http://other:9000", "files.endpoint"),
            ("S3_ENDPOINT_URL", "", "files.endpoint"),
            ("AWS_S3_FORCE_PATH_STYLE", "false", "files.path_style"),
            ("AWS_ACCESS_KEY_ID", "other", "files.access_key_id"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2", "files.secret_access_key"),
        ] {
            let conflict = read(&[(variable, value)]).check(&s3, &secrets).unwrap_err();
            assert!(conflict.message.contains(field) && !conflict.message.contains("hunter2"), "{conflict:?}");
        }
        let one = S3Files { buckets: BucketNames::Single("shop".to_owned()), ..s3 };
        assert!(read(&[]).check(&one, &secrets).unwrap_err().message.contains("files.bucket"));
    }

    #[test]
    fn the_line_that_says_the_same_is_printed() {
        let convex = [
            ("S3_STORAGE_EXPORTS_BUCKET", "convex-snapshot-exports"),
            ("S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET", "convex-snapshot-imports"),
            ("S3_STORAGE_FILES_BUCKET", "convex-user-files"),
            ("S3_STORAGE_MODULES_BUCKET", "convex-modules"),
            ("S3_STORAGE_SEARCH_BUCKET", "convex-search-indexes"),
        ];
        let one = |(variable, _): (&'static str, &str)| (variable, "everything");
        for (variables, words) in [
            (&[][..], "bucket_prefix = \"shop\""),
            (&PARTS.map(one), "bucket = \"everything\""),
            (&convex, "buckets = { exports = \"convex-snapshot-exports\", snapshot_imports = \"convex-snapshot-imports\", "),
        ] {
            let line = read(variables).manifest_line();
            assert!(line.contains(words) && !line.contains("\"key\""), "{line}");
            let manifest = format!("project = \"x\"\n[backends.a]\nprovider = \"docker\"\n{line}");
            let table: toml::Table = manifest.parse().unwrap();
            assert_eq!(table["backends"]["a"]["files"]["secret_access_key"]["env"].as_str(), Some("AWS_SECRET_ACCESS_KEY"));
        }
        let (s3, secrets) = written();
        let named = crate::model::NamedBuckets {
            exports: "convex-snapshot-exports".to_owned(),
            snapshot_imports: "convex-snapshot-imports".to_owned(),
            modules: "convex-modules".to_owned(),
            files: "convex-user-files".to_owned(),
            search: "convex-search-indexes".to_owned(),
        };
        let s3 = S3Files { buckets: BucketNames::Named(named), ..s3 };
        assert_eq!(read(&convex).check(&s3, &secrets), Ok(()));
        assert!(read(&[]).check(&s3, &secrets).unwrap_err().help.contains("bucket_prefix = \"shop\""));
    }
}

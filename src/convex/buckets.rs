//! The five buckets in which Convex keeps files, and the keys of its objects.

use crate::model::BucketNames;

/// The variable that names each bucket, and its part of the name where each has one of its own.
pub(crate) const PARTS: [(&str, &str); 5] = [
    ("S3_STORAGE_EXPORTS_BUCKET", "exports"),
    ("S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET", "snapshot-imports"),
    ("S3_STORAGE_MODULES_BUCKET", "modules"),
    ("S3_STORAGE_FILES_BUCKET", "files"),
    ("S3_STORAGE_SEARCH_BUCKET", "search"),
];

/// Returns the name of one of the five buckets.
pub(crate) fn bucket_name(names: &BucketNames, part: &str) -> String {
    match names {
        BucketNames::Single(name) => name.clone(),
        BucketNames::Prefix(prefix) => format!("{prefix}-{part}"),
        BucketNames::Named(named) => {
            let named = named.parts().into_iter().find(|(key, _)| key.replace('_', "-") == part);
            named.map(|(_, bucket)| bucket.to_owned()).unwrap_or_default()
        }
    }
}

/// Returns the names of all buckets, each once.
#[cfg(feature = "native")]
pub(crate) fn bucket_names(names: &BucketNames) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (_, part) in PARTS {
        let name = bucket_name(names, part);
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Returns the prefix under which one life of an instance keeps its objects, such as `shop-dev-<uuid>/`, where `key` is one
/// of its objects.
#[cfg(feature = "native")]
pub(crate) fn prefix_of<'a>(instance: &str, key: &'a str) -> Option<&'a str> {
    let (folder, _) = key.split_once('/')?;
    let uuid = folder.strip_prefix(instance)?.strip_prefix('-')?;
    let groups: Vec<&str> = uuid.split('-').collect();
    let is_uuid = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_uuid.then(|| &key[..=folder.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_named_once() {
        assert_eq!(bucket_names(&BucketNames::Single("shop".to_owned())), ["shop"]);
        let five = bucket_names(&BucketNames::Prefix("shop".to_owned()));
        assert_eq!(five, ["shop-exports", "shop-snapshot-imports", "shop-modules", "shop-files", "shop-search"]);
        let named = |exports: &str, search: &str| {
            let name = |name: &str| name.to_owned();
            BucketNames::Named(crate::model::NamedBuckets {
                exports: name(exports),
                snapshot_imports: name("imports"),
                modules: name("code"),
                files: name("user-files"),
                search: name(search),
            })
        };
        assert_eq!(bucket_names(&named("out", "index")), ["out", "imports", "code", "user-files", "index"]);
        assert_eq!(bucket_names(&named("user-files", "code")), ["user-files", "imports", "code"]);
    }

    #[test]
    fn only_a_whole_prefix_of_the_instance_counts() {
        let uuid = "0b9cbf71-5c3d-4bd5-9d44-2a8a2c3c7e10";
        let key = format!("shop-dev-{uuid}/a1");
        assert_eq!(prefix_of("shop-dev", &key), Some(format!("shop-dev-{uuid}/").as_str()));
        for (instance, key) in [
            ("shop", key.as_str()),
            ("shop-dev", &format!("shop-dev-x-{uuid}/a")),
            ("shop-dev", &format!("shop-dev-{uuid}")),
            ("shop-dev", "shop-dev-convexinfra-probe"),
            ("shop-dev", "shop-dev-zzzzzzzz-5c3d-4bd5-9d44-2a8a2c3c7e10/a"),
            ("shop-dev", ""),
        ] {
            assert_eq!(prefix_of(instance, key), None, "{key}");
        }
    }
}

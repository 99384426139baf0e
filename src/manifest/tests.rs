//! Whole manifests, from text to nouns.

//! Parts that several drivers are made of. Nothing here knows a driver.

pub mod backoff;
pub mod commit_pin;
pub mod data_place;
#[cfg(feature = "native")]
pub mod external;
pub mod image_reference;
#[cfg(feature = "native")]
pub mod keyed_lock;
#[cfg(feature = "native")]
pub mod launch_file;
pub mod log_text;
pub mod owner;
#[cfg(feature = "native")]
pub mod readiness;
pub mod redact;
#[cfg(feature = "native")]
pub mod tunnel;

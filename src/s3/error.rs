//! Why a bucket cannot be used, by situation.
//!
//! No error shows a key. What a service says is shown on one line, shortened.

/// A bucket that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problem.message(.bucket))]
pub struct BucketError {
    /// Its name; empty where no bucket was reached.
    pub bucket: String,
    /// What is in the way.
    pub problem: BucketProblem,
}

/// What is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketProblem {
    /// The endpoint is no URL that could name the bucket.
    Endpoint,
    /// Nothing answers.
    Unreachable(String),
    /// The host policy of this control plane forbids the service.
    HostForbidden,
    /// The bucket is not there.
    Missing,
    /// An object is not there, in a bucket that is.
    NoSuchObject,
    /// The service does not know the keys.
    Credentials {
        /// The service's code.
        code: String,
        /// What it says.
        message: String,
    },
    /// The keys may not do it.
    Denied {
        /// What the service says.
        message: String,
    },
    /// The bucket is in another region.
    Region {
        /// The right one, where the service says it.
        region: Option<String>,
        /// What it says.
        message: String,
    },
    /// Only the path style reaches the bucket.
    PathStyle,
    /// The clocks differ.
    Clock,
    /// What was read is not what was written.
    OtherContent,
    /// The answer is none of S3.
    Malformed,
    /// Any other answer.
    Other {
        /// The status.
        status: u16,
        /// The service's code.
        code: String,
        /// What it says.
        message: String,
    },
}

/// How much of what a service says is shown, in bytes.
const SHOWN: usize = 200;

/// Returns what a service says as one line of bounded length.
pub(super) fn one_line(text: &str) -> String {
    let entities =
        [("&#34;", "\""), ("&quot;", "\""), ("&#39;", "'"), ("&apos;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    let text = entities.iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character));
    let mut line: String = text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        line.push('…');
    }
    line.trim().to_owned()
}

impl BucketError {
    pub(super) fn new(bucket: &str, problem: BucketProblem) -> Self {
        Self { bucket: bucket.to_owned(), problem }
    }

    /// A stable name of the situation.
    pub fn code(&self) -> &'static str {
        match self.problem {
            BucketProblem::Endpoint => "files.endpoint",
            BucketProblem::Unreachable(_) => "files.unreachable",
            BucketProblem::HostForbidden => "files.host_forbidden",
            BucketProblem::Missing | BucketProblem::NoSuchObject => "files.bucket_missing",
            BucketProblem::Credentials { .. } => "files.credentials",
            BucketProblem::Denied { .. } => "files.not_allowed",
            BucketProblem::Region { .. } => "files.region",
            BucketProblem::PathStyle => "files.path_style",
            BucketProblem::Clock => "files.clock",
            BucketProblem::OtherContent | BucketProblem::Malformed | BucketProblem::Other { .. } => "files.service",
        }
    }

    /// Whether the error tells what answers at an address, or what does not, before it was proven to be an S3 service.
    pub fn describes_network(&self) -> bool {
        use BucketProblem::{HostForbidden, Malformed, Other, Unreachable};
        match &self.problem {
            Unreachable(_) | HostForbidden | Malformed => true,
            Other { code, .. } => code.is_empty(),
            BucketProblem::Region { message, .. } => message.is_empty(),
            _ => false,
        }
    }

    /// Whether a later try may find it otherwise without a change of the manifest.
    pub fn may_pass(&self) -> bool {
        match &self.problem {
            BucketProblem::Unreachable(_) => true,
            BucketProblem::Other { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// What to do about it; `endpoint` is the argument that names the service to the AWS command line.
    pub(super) fn help(&self, region: &str, endpoint: &str) -> Option<String> {
        let bucket = &self.bucket;
        Some(match &self.problem {
            BucketProblem::Endpoint => {
                "write `endpoint = \"https://host\"`, or with `path_style = true` where the bucket's name \
                                        cannot stand in the host"
                    .to_owned()
            }
            BucketProblem::Unreachable(_) => {
                "check `files.endpoint`, that the service runs, and that nothing on the way stops the connection; where names \
                 below the endpoint's host do not resolve, add `path_style = true`"
                    .to_owned()
            }
            BucketProblem::HostForbidden => {
                "name a service with a public address, or have an operator allow this one with `serve --allow-database-hosts`"
                    .to_owned()
            }
            BucketProblem::Missing | BucketProblem::NoSuchObject => format!(
                "make it with\n    aws s3 mb s3://{bucket} --region {region}{endpoint}\nor add `create_buckets = true` to `files`, \
                 which makes the buckets of a new backend"
            ),
            BucketProblem::Credentials { .. } => format!(
                "check the variables or files that `files.access_key_id` and `files.secret_access_key` refer to; with the right \
                 ones in `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` this works\n    aws s3 ls s3://{bucket} --region \
                 {region}{endpoint}"
            ),
            BucketProblem::Denied { .. } => format!(
                "allow `s3:GetObject`, `s3:PutObject`, `s3:DeleteObject` and `s3:AbortMultipartUpload` on \
                 `arn:aws:s3:::{bucket}/*` to these keys; look at what holds with\n    aws s3api get-bucket-policy --bucket \
                 {bucket} --region {region}{endpoint}"
            ),
            BucketProblem::Region { region: Some(right), .. } => format!("write `region = \"{right}\"` in `files`"),
            BucketProblem::Region { region: None, .. } => format!(
                "write the bucket's region as `region` in `files`; this says which one it is\n    aws s3api get-bucket-location \
                 --bucket {bucket}{endpoint}"
            ),
            BucketProblem::PathStyle => "add `path_style = true` to `files`".to_owned(),
            BucketProblem::Clock => "set the clock of this machine, or that of the service".to_owned(),
            BucketProblem::OtherContent | BucketProblem::Malformed | BucketProblem::Other { .. } => return None,
        })
    }
}

impl BucketProblem {
    fn message(&self, bucket: &str) -> String {
        let said = |message: &str| if message.is_empty() { String::new() } else { format!(" (it says: {message})") };
        match self {
            Self::Endpoint => format!("`files.endpoint` is no URL at which the bucket `{bucket}` could be"),
            Self::Unreachable(reason) => format!("the S3 service of the bucket `{bucket}` cannot be reached: {reason}"),
            Self::HostForbidden => "this control plane connects to no S3 service at this address".to_owned(),
            Self::Missing | Self::NoSuchObject => format!("the bucket `{bucket}` is not there"),
            Self::Credentials { code, message } => {
                format!("the S3 service does not take the keys for the bucket `{bucket}`: {code}{}", said(message))
            }
            Self::Denied { message } => format!("the keys may not read and write in the bucket `{bucket}`{}", said(message)),
            Self::Region { region, message } => match region {
                Some(region) => format!("the bucket `{bucket}` is in the region `{region}`{}", said(message)),
                None => format!("the bucket `{bucket}` is in another region{}", said(message)),
            },
            Self::PathStyle => {
                format!("the bucket `{bucket}` is reached only with its name in the path, and not in the host")
            }
            Self::Clock => format!("the S3 service refuses the bucket `{bucket}`: its clock and the one here differ too much"),
            Self::OtherContent => format!("what was written to the bucket `{bucket}` is not what was read from it"),
            Self::Malformed => format!("what answers for the bucket `{bucket}` does not speak S3"),
            Self::Other { status, code, message } => {
                let code = if code.is_empty() { format!("status {status}") } else { code.clone() };
                format!("the S3 service refuses the bucket `{bucket}`: {code}{}", said(message))
            }
        }
    }
}

//! What convexinfra writes into an env file: the names, the values, and the two comment lines around them.

use std::collections::BTreeSet;

use super::error::EnvFileError;
use super::notes::notes;
use super::parse::{Document, without_break};
use crate::model::{BackendName, Fingerprint, ProjectName, Secret};

/// The variable of the deployment's URL.
pub const URL: &str = "CONVEX_SELF_HOSTED_URL";
/// The variable of the admin key.
pub const ADMIN_KEY: &str = "CONVEX_SELF_HOSTED_ADMIN_KEY";
/// The variables that send the Convex client to Convex Cloud before anything else.
pub const DEPLOY_KEYS: [&str; 2] = ["CONVEX_DEPLOY_KEY", "CONVEX_DEPLOYMENT_TOKEN"];

const PREFIXES: [&str; 6] = ["", "PUBLIC_", "NEXT_PUBLIC_", "VITE_", "REACT_APP_", "EXPO_PUBLIC_"];
const CLIENT_URL: &str = "CONVEX_URL";
const CLIENT_SITE_URL: &str = "CONVEX_SITE_URL";

/// Whose block it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOwner {
    /// The project.
    pub project: ProjectName,
    /// The backend.
    pub backend: BackendName,
}

/// The variables that a framework hands to the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientVariables {
    /// What the framework wants before every name, such as `NEXT_PUBLIC_`; see [`super::detect::client_prefix`].
    pub prefix: String,
    /// The URL of HTTP actions.
    pub site_url: String,
}

/// Everything that one backend has to say in an env file.
#[derive(Debug, Clone)]
pub struct Block {
    pub(super) owner: BlockOwner,
    pub(super) url: String,
    /// None where the file gets the client variables alone.
    pub(super) admin_key: Option<Secret>,
    pub(super) client: Option<ClientVariables>,
}

/// What an env file should say, as far as it is known before anything was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedBlock {
    /// Whose block it is.
    pub owner: BlockOwner,
    /// The deployment's URL, once known.
    pub url: Option<String>,
    /// Whether URL and admin key are wanted.
    pub has_pair: bool,
    /// The fingerprint of the admin key, once known.
    pub admin_key: Option<Fingerprint>,
    /// The framework's variables, if they are wanted.
    pub client: Option<ExpectedClient>,
}

/// The framework's variables, as far as they are known before anything was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedClient {
    /// What the framework wants before every name.
    pub prefix: String,
    /// The URL of HTTP actions, once known.
    pub site_url: Option<String>,
}

impl Block {
    /// Creates a block; without a key it has the client variables alone.
    ///
    /// # Errors
    /// [`EnvFileError::UnwritableValue`] when a value holds blanks, quotes or anything else that would be read
    /// back differently.
    pub fn new(
        owner: BlockOwner,
        url: &str,
        admin_key: Option<Secret>,
        client: Option<ClientVariables>,
    ) -> Result<Self, EnvFileError> {
        // One trailing slash is what the client would take off by itself.
        let url = url.strip_suffix('/').unwrap_or(url).to_owned();
        let client = client.map(|client| ClientVariables {
            site_url: client.site_url.strip_suffix('/').unwrap_or(&client.site_url).to_owned(),
            ..client
        });
        check(URL, &url)?;
        if let Some(admin_key) = &admin_key {
            check(ADMIN_KEY, admin_key.expose())?;
        }
        if let Some(client) = &client {
            check(CLIENT_SITE_URL, &client.site_url)?;
            if !PREFIXES.contains(&client.prefix.as_str()) {
                return Err(EnvFileError::UnwritableValue { name: format!("{}{CLIENT_URL}", client.prefix) });
            }
        }
        Ok(Self { owner, url, admin_key, client })
    }

    /// Whether it has URL and admin key.
    pub(super) fn has_pair(&self) -> bool {
        self.admin_key.is_some()
    }

    /// The lines of URL and admin key, without line breaks.
    pub(super) fn pair(&self) -> Vec<String> {
        let key = self.admin_key.as_ref();
        key.map(|key| vec![format!("{URL}={}", self.url), format!("{ADMIN_KEY}='{}'", key.expose())]).unwrap_or_default()
    }
}

/// Letters that mean the same to dotenv, a shell and an editor, quoted or not.
fn check(name: &str, value: &str) -> Result<(), EnvFileError> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\'' | b'"' | b'`' | b'\\' | b'#' | b'$');
    if value.is_empty() || !value.bytes().all(plain) {
        return Err(EnvFileError::UnwritableValue { name: name.to_owned() });
    }
    Ok(())
}

/// Which of the two client variables a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientKind {
    Url,
    SiteUrl,
}

impl ClientKind {
    pub(super) const ALL: [Self; 2] = [Self::Url, Self::SiteUrl];

    pub(super) fn of(name: &str) -> Option<Self> {
        // `CONVEX_SITE_URL` does not end in `CONVEX_URL`, so the order does not matter.
        let is = |suffix: &str| name.strip_suffix(suffix).is_some_and(|prefix| PREFIXES.contains(&prefix));
        if is(CLIENT_URL) { Some(Self::Url) } else { is(CLIENT_SITE_URL).then_some(Self::SiteUrl) }
    }

    pub(super) fn name(self, prefix: &str) -> String {
        match self {
            Self::Url => format!("{prefix}{CLIENT_URL}"),
            Self::SiteUrl => format!("{prefix}{CLIENT_SITE_URL}"),
        }
    }
}

/// Whether a variable is one of the pair that only our block may define.
pub(super) fn is_credential(name: &str) -> bool {
    name == URL || name == ADMIN_KEY
}

const BEGIN: &str = "# >>> convexinfra: ";
const END: &str = "# <<< convexinfra <<<";

/// What was put before a block, as its first marker says, so that taking it out gives the same bytes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum BlockLead {
    /// A blank line, or nothing in a file that was not there.
    #[default]
    BlankLine,
    /// The break of a last line that had none, and a blank line.
    OpenLine,
    /// Nothing, as after a lone `\r`.
    Nothing,
    /// Nothing, in a file that was there and empty.
    EmptyFile,
}

impl BlockLead {
    const MARKED: [Self; 3] = [Self::OpenLine, Self::Nothing, Self::EmptyFile];

    /// Returns what the marker says.
    fn mark(self) -> &'static str {
        match self {
            Self::BlankLine => "",
            Self::OpenLine => ", after a line without a break",
            Self::Nothing => ", without a blank line before it",
            Self::EmptyFile => ", in a file that was empty",
        }
    }

    fn parse(inside: &str) -> Self {
        Self::MARKED.into_iter().find(|lead| inside.trim_end().ends_with(lead.mark())).unwrap_or_default()
    }
}

impl BlockOwner {
    pub(super) fn begin(&self, lead: BlockLead) -> String {
        format!("{BEGIN}backend {} of {}, rewritten by every apply{} >>>", self.backend, self.project, lead.mark())
    }

    pub(super) fn end() -> &'static str {
        END
    }
}

/// Where the blocks of an env file are.
pub(super) struct BlockLayout {
    /// One role per line.
    pub(super) roles: Vec<LineOwner>,
    /// The blocks, broken ones too.
    pub(super) blocks: Vec<BlockPosition>,
}

/// Whose a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineOwner {
    /// Of others: kept.
    Unmanaged,
    /// Part of the block with this index: a marker, or a variable that is ours.
    Block(usize),
    /// An end marker that ends nothing.
    OrphanMarker,
}

/// A block that stands in a file.
pub(super) struct BlockPosition {
    pub(super) begin: usize,
    /// `backend of project`, as the marker says.
    pub(super) owner: String,
    /// What was put before it.
    pub(super) lead: BlockLead,
}

impl BlockOwner {
    pub(super) fn label(&self) -> String {
        format!("{} of {}", self.backend, self.project)
    }
}

/// Whether a label is that of a backend of this project.
fn belongs_to(label: &str, project: &ProjectName) -> bool {
    label.rsplit_once(" of ").is_some_and(|(_, owner)| owner == project.as_str())
}

enum Marker {
    Begin(String, BlockLead),
    End,
}

fn marker(line: &[u8]) -> Option<Marker> {
    let text = std::str::from_utf8(without_break(line)).ok()?.trim();
    if text == END {
        return Some(Marker::End);
    }
    let inside = text.strip_prefix(BEGIN)?.strip_suffix(">>>")?;
    let label = inside.trim().strip_prefix("backend ").unwrap_or_default();
    Some(Marker::Begin(label.split(',').next().unwrap_or_default().trim().to_owned(), BlockLead::parse(inside)))
}

impl BlockLayout {
    /// Finds the blocks, of one project or of all. Lines inside a quoted value are never markers, and of a block that lost its end only the
    /// variables right below the marker are ours.
    pub(super) fn of(document: &Document<'_>, project: Option<&ProjectName>) -> Self {
        let count = document.lines().len();
        let mut ours = vec![false; count];
        let mut inside_value = vec![false; count];
        for assignment in document.assignments() {
            let own = is_credential(&assignment.name) || ClientKind::of(&assignment.name).is_some();
            for line in assignment.lines.clone() {
                if let (Some(ours), Some(inside)) = (ours.get_mut(line), inside_value.get_mut(line)) {
                    *ours = own;
                    *inside = line > assignment.lines.start;
                }
            }
        }
        let markers: Vec<(usize, Marker)> = document
            .lines()
            .zip(&inside_value)
            .enumerate()
            .filter(|(_, (_, inside))| !**inside)
            .filter_map(|(index, (line, _))| marker(line).map(|found| (index, found)))
            .collect();
        let noted: BTreeSet<usize> = notes(document).iter().flat_map(|note| note.line..=note.line + note.count).collect();
        let mut layout = Self { roles: vec![LineOwner::Unmanaged; count], blocks: Vec::new() };
        let mut next = markers.iter().peekable();
        while let Some((begin, found)) = next.next() {
            let Marker::Begin(owner, lead) = found else {
                layout.set(*begin, LineOwner::OrphanMarker);
                continue;
            };
            let end = next.next_if(|(_, found)| matches!(found, Marker::End)).map(|(end, _)| *end);
            if project.is_some_and(|project| !belongs_to(owner, project)) {
                continue;
            }
            let role = LineOwner::Block(layout.blocks.len());
            layout.blocks.push(BlockPosition { begin: *begin, owner: owner.clone(), lead: *lead });
            layout.set(*begin, role);
            let is_ours = |line: &usize| ours.get(*line).copied().unwrap_or_default();
            if let Some(end) = end {
                (begin + 1..end).filter(|line| is_ours(line) || noted.contains(line)).for_each(|line| layout.set(line, role));
                layout.set(end, role);
            } else {
                (begin + 1..count).take_while(is_ours).for_each(|line| layout.set(line, role));
            }
        }
        layout
    }

    fn set(&mut self, line: usize, role: LineOwner) {
        if let Some(place) = self.roles.get_mut(line) {
            *place = role;
        }
    }
}

//! Namespaces: the paths that events are published to and that subscribers listen to.
//!
//! Owns the normal form and its limits. A [`Namespace`] is checked when it is made; no code inside
//! the crate checks a path a second time.

use std::borrow::Cow;
use std::fmt;

/// A checked path in normal form, for example `/pets/dogs`.
///
/// An event for a namespace reaches the subscribers of that namespace and of all its ancestors up
/// to the root `/`.
///
/// The normal form has a leading `/`, no empty segments and no trailing `/`: `pets`, `/pets/` and
/// `//pets` are all `/pets`, and the empty path is the root. Namespaces are case-sensitive. Percent
/// escapes have no meaning here; HTTP decodes them before.
///
/// ```
/// use fanfare::Namespace;
///
/// let dogs = Namespace::parse("pets//dogs/")?;
/// assert_eq!(dogs.as_str(), "/pets/dogs");
/// assert!(Namespace::parse("/pets")?.contains(&dogs));
/// assert!(!Namespace::parse("/pet")?.contains(&dogs));
/// assert!(Namespace::root().contains(&dogs));
///
/// let error = Namespace::parse("/pets/../dogs").unwrap_err();
/// assert_eq!(error.to_string(), "namespace must not have a segment `.` or `..`");
/// # Ok::<(), fanfare::NamespaceError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Box<str>);

/// The namespaces of one stream: at least one, in order, none within another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces(Vec<Namespace>);

impl Namespaces {
    /// [Reduces](Namespace::reduce) a list; `None` if it is empty.
    pub fn new(namespaces: Vec<Namespace>) -> Option<Self> {
        let reduced = Namespace::reduce(namespaces);
        (!reduced.is_empty()).then_some(Self(reduced))
    }

    /// The namespaces in order.
    pub fn as_slice(&self) -> &[Namespace] {
        &self.0
    }
}

impl From<Namespace> for Namespaces {
    fn from(namespace: Namespace) -> Self {
        Self(vec![namespace])
    }
}

/// A borrowed [`Namespace`], which may be part of another text.
#[derive(Debug, Clone, Copy)]
pub struct NamespaceRef<'a>(&'a str);

/// The limits of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamespaceLimits {
    /// Segments in one path; 16 by default.
    pub segments: usize,
    /// Bytes in one segment; 128 by default.
    pub segment_bytes: usize,
    /// Bytes in the whole path, in normal form; 1,024 by default.
    pub path_bytes: usize,
}

impl Default for NamespaceLimits {
    fn default() -> Self {
        Self {
            segments: 16,
            segment_bytes: 128,
            path_bytes: 1024,
        }
    }
}

/// The reason why a path is not a valid namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The path has a control character (Unicode category Cc).
    ControlCharacter {
        /// The byte offset of the character in the path as given.
        at: usize,
    },
    /// A segment is `.` or `..`.
    DotSegment,
    /// The path has more segments than [`NamespaceLimits::segments`], the limit here.
    TooManySegments(usize),
    /// A segment has more bytes than [`NamespaceLimits::segment_bytes`], the limit here.
    SegmentTooLong(usize),
    /// The normal form has more bytes than [`NamespaceLimits::path_bytes`], the limit here.
    PathTooLong(usize),
}

impl fmt::Display for NamespaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlCharacter { at } => {
                write!(f, "namespace must not have a control character: byte {at}")
            }
            Self::DotSegment => f.write_str("namespace must not have a segment `.` or `..`"),
            Self::TooManySegments(limit) => {
                write!(f, "namespace exceeds the maximum of {limit} segments")
            }
            Self::SegmentTooLong(limit) => {
                write!(
                    f,
                    "namespace has a segment that exceeds the maximum of {limit} bytes"
                )
            }
            Self::PathTooLong(limit) => write!(f, "namespace exceeds the maximum of {limit} bytes"),
        }
    }
}

impl std::error::Error for NamespaceError {}

impl Namespace {
    /// The root, `/`, whose subscribers receive every event.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Parses a path within the default [`NamespaceLimits`] and brings it to normal form.
    ///
    /// # Errors
    /// A [`NamespaceError`] if the path is invalid. Only slashes are normalized; nothing else is
    /// repaired.
    pub fn parse(path: &str) -> Result<Self, NamespaceError> {
        Self::parse_within(path, &NamespaceLimits::default())
    }

    /// Parses a path within other limits and brings it to normal form.
    ///
    /// # Errors
    /// As [`Namespace::parse`].
    pub fn parse_within(path: &str, limits: &NamespaceLimits) -> Result<Self, NamespaceError> {
        normal_form(path, limits).map(|normal| Self(normal.into()))
    }

    /// The normal form, with its leading `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments from the root down. The root has none.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.by_ref().segments()
    }

    /// A borrowed view of it.
    pub(crate) fn by_ref(&self) -> NamespaceRef<'_> {
        NamespaceRef(&self.0)
    }

    /// Whether this is `other` or one of its ancestors. Whole segments are compared, so `/pet` does
    /// not contain `/pets`.
    pub fn contains(&self, other: &Self) -> bool {
        &*self.0 == "/"
            || other
                .0
                .strip_prefix(&*self.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Sorts a list and removes every namespace that another one in the list contains.
    pub fn reduce(mut namespaces: Vec<Self>) -> Vec<Self> {
        namespaces.sort();
        namespaces.dedup();
        let mut kept: Vec<Self> = Vec::with_capacity(namespaces.len());
        for namespace in namespaces {
            if !kept.iter().any(|ancestor| ancestor.contains(&namespace)) {
                kept.push(namespace);
            }
        }
        kept
    }
}

/// Checks a path and brings it to normal form. A path that is in normal form already, as most are,
/// is not copied.
pub(crate) fn normal_form<'a>(
    path: &'a str,
    limits: &NamespaceLimits,
) -> Result<Cow<'a, str>, NamespaceError> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~');
    // Most paths are plain ASCII, for which this check is faster than decoding characters.
    if !path.bytes().all(plain)
        && let Some((at, _)) = path.char_indices().find(|(_, c)| c.is_control())
    {
        return Err(NamespaceError::ControlCharacter { at });
    }
    let (mut depth, mut bytes) = (0, 0);
    for segment in segments(path) {
        depth += 1;
        bytes += "/".len() + segment.len();
        if segment == "." || segment == ".." {
            return Err(NamespaceError::DotSegment);
        }
        if segment.len() > limits.segment_bytes {
            return Err(NamespaceError::SegmentTooLong(limits.segment_bytes));
        }
    }
    if depth > limits.segments {
        return Err(NamespaceError::TooManySegments(limits.segments));
    }
    if bytes > limits.path_bytes {
        return Err(NamespaceError::PathTooLong(limits.path_bytes));
    }
    if depth == 0 {
        return Ok("/".into());
    }
    // Any other spelling has additional slashes, or no leading one.
    if path.starts_with('/') && path.len() == bytes {
        return Ok(path.into());
    }
    Ok(segments(path).flat_map(|segment| ["/", segment]).collect())
}

/// The non-empty segments between the slashes of a path.
///
/// The search goes byte by byte, since segments are too short for a faster algorithm to pay off.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let start = rest.bytes().position(|byte| byte != b'/')?;
        let from = &rest[start..];
        let end = from.bytes().position(|byte| byte == b'/');
        let (segment, after) = from.split_at(end.unwrap_or(from.len()));
        rest = after;
        Some(segment)
    })
}

impl<'a> NamespaceRef<'a> {
    /// Wraps a path in normal form, as [`Namespace::as_str`] returns it.
    pub(crate) fn of_normal(path: &'a str) -> Self {
        debug_assert!(path.starts_with('/'), "the caller passes a normal form");
        Self(path)
    }

    /// The normal form, with its leading `/`.
    #[cfg(feature = "admin")]
    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }

    /// The segments from the root down. The root has none.
    pub(crate) fn segments(self) -> impl Iterator<Item = &'a str> {
        segments(self.0)
    }

    /// An owned copy.
    pub(crate) fn to_namespace(self) -> Namespace {
        Namespace(self.0.into())
    }

    /// The ancestor with this number of segments, or the namespace itself if it has fewer.
    pub(crate) fn ancestor(self, segments: usize) -> Namespace {
        if segments == 0 {
            return Namespace::root();
        }
        // Each segment follows its slash.
        let end = self
            .0
            .match_indices('/')
            .nth(segments)
            .map_or(self.0.len(), |(at, _)| at);
        Namespace(self.0[..end].into())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({:?})", &*self.0)
    }
}

impl std::str::FromStr for Namespace {
    type Err = NamespaceError;
    fn from_str(path: &str) -> Result<Self, NamespaceError> {
        Self::parse(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_counted_from_the_root() {
        let namespace = Namespace::parse("/a/bc/d").unwrap();
        for (segments, ancestor) in [
            (0, "/"),
            (1, "/a"),
            (2, "/a/bc"),
            (3, "/a/bc/d"),
            (9, "/a/bc/d"),
        ] {
            let namespace = namespace.by_ref();
            assert_eq!(namespace.ancestor(segments).as_str(), ancestor);
        }
        let root = Namespace::root();
        assert_eq!(root.by_ref().ancestor(0), root);
        assert_eq!(root.by_ref().ancestor(1), root);
    }

    #[test]
    fn every_spelling_has_one_normal_form() {
        for (path, normal) in [
            ("", "/"),
            ("/", "/"),
            ("///", "/"),
            ("pets", "/pets"),
            ("/pets/", "/pets"),
            ("//pets", "/pets"),
            ("/pets//dogs", "/pets/dogs"),
            ("/Pets", "/Pets"),
            ("/a b/ü", "/a b/ü"),
            ("/...", "/..."),
            ("/.a", "/.a"),
        ] {
            assert_eq!(Namespace::parse(path).unwrap().as_str(), normal, "{path:?}");
        }
    }

    #[test]
    fn invalid_paths_are_refused_and_each_limit_is_exact() {
        use NamespaceError::*;
        let long = |n: usize| "s".repeat(n);
        let path_of =
            |n: usize| format!("/{}", long(127)).repeat(n / 128) + &"/x".repeat(n % 128 / 2);
        for (path, error) in [
            ("/a\nb".into(), Some(ControlCharacter { at: 2 })),
            ("/a\u{85}".into(), Some(ControlCharacter { at: 2 })),
            ("\0".into(), Some(ControlCharacter { at: 0 })),
            ("/a/./b".into(), Some(DotSegment)),
            ("..".into(), Some(DotSegment)),
            ("/s".repeat(16), None),
            ("/s".repeat(17), Some(TooManySegments(16))),
            (long(128), None),
            (long(129), Some(SegmentTooLong(128))),
            (path_of(1024), None),
            (path_of(1026), Some(PathTooLong(1024))),
        ] {
            assert_eq!(Namespace::parse(&path).err(), error, "{path:?}");
        }
    }

    #[test]
    fn containment_compares_whole_segments() {
        for (ancestor, namespace, contains) in [
            ("/", "/", true),
            ("/", "/a", true),
            ("/a", "/", false),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a/b", "/a", false),
        ] {
            let parse = |path| Namespace::parse(path).unwrap();
            assert_eq!(
                parse(ancestor).contains(&parse(namespace)),
                contains,
                "{ancestor} {namespace}"
            );
        }
    }

    #[test]
    fn overlapping_namespaces_are_reduced_to_the_ancestor() {
        for (given, kept) in [
            (vec!["/a", "/b"], vec!["/a", "/b"]),
            (vec!["/a/b", "/a", "/a"], vec!["/a"]),
            (vec!["/a-b", "/a", "/a/b"], vec!["/a", "/a-b"]),
            (vec!["/x", "/"], vec!["/"]),
        ] {
            let given = given
                .into_iter()
                .map(|path| Namespace::parse(path).unwrap())
                .collect();
            let reduced = Namespaces::new(given).unwrap();
            assert_eq!(
                reduced
                    .as_slice()
                    .iter()
                    .map(Namespace::as_str)
                    .collect::<Vec<_>>(),
                kept
            );
        }
        assert_eq!(Namespaces::new(vec![]), None);
    }
}

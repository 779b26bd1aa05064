//! A map from namespaces to values, which finds the values of a namespace and of its ancestors in
//! one walk.
//!
//! Owns the nodes and their count. It knows nothing of its values, and its owner decides when to
//! remove one.

use std::collections::HashMap;
use std::fmt;

use crate::namespace::Namespace;

/// A map from namespaces to values.
///
/// Iteration visits an ancestor before its descendants. The order of siblings is unspecified.
#[derive(Debug)]
pub struct Trie<T> {
    root: Node<T>,
    /// The number of nodes except the root: the namespaces that have a value or lead to one.
    nodes: usize,
    values: usize,
}

/// A node with a value of its own or of a descendant; only the root may have neither.
#[derive(Debug)]
struct Node<T> {
    value: Option<T>,
    children: HashMap<Box<str>, Self>,
}

/// The error for an insertion that would exceed the maximum number of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the maximum number of namespaces is reached")
    }
}

impl std::error::Error for Full {}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Trie<T> {
    /// Creates an empty trie.
    pub fn new() -> Self {
        Self {
            root: Node::new(),
            nodes: 0,
            values: 0,
        }
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.values
    }

    /// Whether the trie is empty.
    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// The value of a namespace.
    pub fn get(&self, namespace: &Namespace) -> Option<&T> {
        self.node(namespace)?.value.as_ref()
    }

    /// The value of a namespace, which `make` creates if it is missing.
    ///
    /// # Errors
    /// [`Full`] if a new value would need more than `max_nodes` nodes in total. Then the trie is
    /// unchanged.
    pub fn insert_with(
        &mut self,
        namespace: &Namespace,
        max_nodes: usize,
        make: impl FnOnce() -> T,
    ) -> Result<&mut T, Full> {
        let missing = self.missing(namespace);
        if missing > max_nodes.saturating_sub(self.nodes) {
            return Err(Full);
        }
        let mut node = &mut self.root;
        for segment in namespace.segments() {
            // `HashMap::entry` would copy the segment even if the child exists.
            if !node.children.contains_key(segment) {
                node.children.insert(segment.into(), Node::new());
            }
            node = node
                .children
                .get_mut(segment)
                .expect("the child exists or was just inserted");
        }
        self.nodes += missing;
        self.values += usize::from(node.value.is_none());
        Ok(node.value.get_or_insert_with(make))
    }

    /// Calls `f` with the values of a namespace, given by its segments, and of its ancestors, from
    /// the root down.
    pub fn for_each_on_path<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a str>,
        mut f: impl FnMut(&mut T),
    ) {
        let mut node = &mut self.root;
        node.value.iter_mut().for_each(&mut f);
        for segment in segments {
            let Some(child) = node.children.get_mut(segment) else {
                return;
            };
            node = child;
            node.value.iter_mut().for_each(&mut f);
        }
    }

    /// Calls `f` with the depth and the value of each namespace from the root down to the one with
    /// these segments. `f` may set a value that is `None`.
    ///
    /// # Errors
    /// The depth at which the path would need more than `max_nodes` nodes in total. `f` is not
    /// called from there on.
    pub fn fill_path<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a str>,
        max_nodes: usize,
        mut f: impl FnMut(usize, &mut Option<T>),
    ) -> Result<(), usize> {
        let values = &mut self.values;
        let mut fill = |depth, value: &mut Option<T>| {
            let before = usize::from(value.is_some());
            f(depth, value);
            *values = *values + usize::from(value.is_some()) - before;
        };
        let mut node = &mut self.root;
        fill(0, &mut node.value);
        for (depth, segment) in (1..).zip(segments) {
            if !node.children.contains_key(segment) {
                if self.nodes >= max_nodes {
                    return Err(depth);
                }
                self.nodes += 1;
                node.children.insert(segment.into(), Node::new());
            }
            node = node
                .children
                .get_mut(segment)
                .expect("the child exists or was just inserted");
            fill(depth, &mut node.value);
        }
        Ok(())
    }

    /// The number of direct children of a namespace.
    pub fn children(&self, namespace: &Namespace) -> usize {
        self.node(namespace).map_or(0, |node| node.children.len())
    }

    /// Removes the value of a namespace, and the nodes that led only to it.
    pub fn remove(&mut self, namespace: &Namespace) -> Option<T> {
        let mut freed = 0;
        let value = self.root.remove(namespace.segments(), &mut freed)?;
        self.nodes -= freed;
        self.values -= 1;
        Some(value)
    }

    /// Calls `f` with the values of a namespace and of all its descendants.
    pub fn for_each_under(&self, namespace: &Namespace, mut f: impl FnMut(&T)) {
        if let Some(node) = self.node(namespace) {
            node.for_each(&mut f);
        }
    }

    fn node(&self, namespace: &Namespace) -> Option<&Node<T>> {
        namespace
            .segments()
            .try_fold(&self.root, |node, segment| node.children.get(segment))
    }

    /// The number of nodes that are missing on the path to a namespace.
    fn missing(&self, namespace: &Namespace) -> usize {
        let mut segments = namespace.segments();
        let mut node = &self.root;
        while let Some(segment) = segments.next() {
            let Some(child) = node.children.get(segment) else {
                return 1 + segments.count();
            };
            node = child;
        }
        0
    }
}

// The recursion is as deep as a namespace has segments, which its limits bound.
impl<T> Node<T> {
    fn new() -> Self {
        Self {
            value: None,
            children: HashMap::new(),
        }
    }

    fn remove<'a>(
        &mut self,
        mut segments: impl Iterator<Item = &'a str>,
        freed: &mut usize,
    ) -> Option<T> {
        let Some(segment) = segments.next() else {
            return self.value.take();
        };
        let child = self.children.get_mut(segment)?;
        let value = child.remove(segments, freed)?;
        if child.value.is_none() && child.children.is_empty() {
            self.children.remove(segment);
            *freed += 1;
            // Shrinking in large steps keeps its amortized cost low.
            if self.children.len() < self.children.capacity() / 8 {
                self.children.shrink_to(2 * self.children.len());
            }
        }
        Some(value)
    }

    fn for_each(&self, f: &mut impl FnMut(&T)) {
        self.value.iter().for_each(&mut *f);
        for child in self.children.values() {
            child.for_each(f);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const UNLIMITED: usize = usize::MAX;

    fn namespace(path: &str) -> Namespace {
        Namespace::parse(path).unwrap()
    }

    /// A trie in which the value of each path is the path.
    fn trie_of(paths: &[&'static str]) -> Trie<&'static str> {
        let mut trie = Trie::new();
        for path in paths {
            trie.insert_with(&namespace(path), UNLIMITED, || *path)
                .unwrap();
        }
        trie
    }

    #[test]
    fn values_on_a_path_and_below_a_namespace_are_found() {
        let mut trie = trie_of(&["/", "/a", "/a/b/c", "/a-b", "/ab", "/b"]);
        for (path, on_path, under) in [
            (
                "/",
                vec!["/"],
                vec!["/", "/a", "/a-b", "/a/b/c", "/ab", "/b"],
            ),
            ("/a", vec!["/", "/a"], vec!["/a", "/a/b/c"]),
            ("/a/b", vec!["/", "/a"], vec!["/a/b/c"]),
            ("/a/b/c", vec!["/", "/a", "/a/b/c"], vec!["/a/b/c"]),
            ("/a/b/c/d/e", vec!["/", "/a", "/a/b/c"], vec![]),
            ("/a/x/c", vec!["/", "/a"], vec![]),
            ("/ab", vec!["/", "/ab"], vec!["/ab"]),
            ("/x", vec!["/"], vec![]),
        ] {
            let mut found = Vec::new();
            trie.for_each_on_path(namespace(path).segments(), |value| found.push(*value));
            assert_eq!(found, on_path, "on the path of {path}");
            found.clear();
            trie.for_each_under(&namespace(path), |value| found.push(*value));
            assert_eq!(found.first(), under.first(), "under {path}");
            found.sort_unstable();
            assert_eq!(found, under, "under {path}");
        }
    }

    #[test]
    fn nodes_are_freed_with_the_last_value_they_lead_to() {
        let mut trie = trie_of(&["/", "/a/b", "/a/b/c/d", "/x"]);
        for (path, removed, nodes, len) in [
            ("/a", None, 5, 4),
            ("/a/b/c/d/e", None, 5, 4),
            ("/a/b", Some("/a/b"), 5, 3),
            ("/a/b", None, 5, 3),
            ("/a/b/c/d", Some("/a/b/c/d"), 1, 2),
            ("/", Some("/"), 1, 1),
            ("/x", Some("/x"), 0, 0),
            ("/", None, 0, 0),
        ] {
            assert_eq!(trie.remove(&namespace(path)), removed, "{path}");
            assert_eq!((trie.nodes, trie.len()), (nodes, len), "{path}");
        }
        assert!(trie.is_empty());
    }

    #[test]
    fn the_maximum_is_exact_and_counts_only_new_nodes() {
        let mut trie = trie_of(&["/a/b"]);
        for (path, max_nodes, result, nodes) in [
            ("/c", 2, Err(Full), 2),
            ("/a/b/c/d", 3, Err(Full), 2),
            ("/a/b/c/d", 4, Ok("new"), 4),
            // An insertion without new nodes never fails, even above the maximum.
            ("/a", 0, Ok("new"), 4),
            ("/", 0, Ok("new"), 4),
            ("/a/b", 0, Ok("/a/b"), 4),
            ("/c", 5, Ok("new"), 5),
        ] {
            let found = trie
                .insert_with(&namespace(path), max_nodes, || "new")
                .copied();
            assert_eq!((found, trie.nodes), (result, nodes), "{path}");
        }
    }

    #[test]
    fn it_agrees_with_a_list_of_all_values() {
        for seed in 1..=20 {
            agree_on_random_steps(seed);
        }
    }

    fn agree_on_random_steps(seed: u64) {
        let mut random = XorShift(seed);
        let mut trie = Trie::new();
        let mut list: Vec<(Namespace, u64)> = Vec::new();
        for step in 0..1000 {
            let name = random.namespace();
            let index = list.iter().position(|(other, _)| *other == name);
            if random.below(2) == 0 {
                let max_nodes = random.below(40);
                let value = match index {
                    Some(at) => Ok(list[at].1),
                    None => {
                        list.push((name.clone(), step));
                        let fits = prefixes(&list) <= max_nodes.max(trie.nodes);
                        if !fits {
                            list.pop();
                        }
                        fits.then_some(step).ok_or(Full)
                    }
                };
                let inserted = trie.insert_with(&name, max_nodes, || step).copied();
                assert_eq!(inserted, value, "seed {seed} step {step} {name}");
            } else {
                let value = index.map(|at| list.remove(at).1);
                assert_eq!(trie.remove(&name), value, "seed {seed} step {step} {name}");
            }
            list.sort_by(|(a, _), (b, _)| a.segments().cmp(b.segments()));
            compare(&mut trie, &list, &random.namespace());
        }
    }

    /// Compares the results of all queries about one namespace.
    fn compare(trie: &mut Trie<u64>, list: &[(Namespace, u64)], name: &Namespace) {
        let pick = |is_match: &dyn Fn(&Namespace) -> bool| -> Vec<u64> {
            let matching = list.iter().filter(|(other, _)| is_match(other));
            matching.map(|(_, value)| *value).collect()
        };
        let sorted = |mut values: Vec<u64>| {
            values.sort_unstable();
            values
        };
        let mut found = Vec::new();
        trie.for_each_under(&Namespace::root(), |value| found.push(*value));
        assert_eq!(sorted(found), sorted(pick(&|_| true)));
        let mut found = Vec::new();
        trie.for_each_under(name, |value| found.push(*value));
        let under = pick(&|other| name.contains(other));
        assert_eq!(sorted(found), sorted(under), "{name}");
        let mut found = Vec::new();
        trie.for_each_on_path(name.segments(), |value| found.push(*value));
        assert_eq!(found, pick(&|other| other.contains(name)), "{name}");

        let at = pick(&|other| other == name).first().copied();
        assert_eq!(trie.get(name).copied(), at, "{name}");
        assert_eq!(trie.nodes, prefixes(list));
        assert_eq!(trie.len(), list.len());
        assert_eq!(trie.is_empty(), list.is_empty());
    }

    /// The number of namespaces, except the root, in the list and above its members.
    fn prefixes(list: &[(Namespace, u64)]) -> usize {
        let mut distinct = BTreeSet::new();
        for (name, _) in list {
            let segments: Vec<&str> = name.segments().collect();
            for depth in 1..=segments.len() {
                distinct.insert(segments[..depth].to_vec());
            }
        }
        distinct.len()
    }

    struct XorShift(u64);

    impl XorShift {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 32) as usize % bound
        }

        /// One of a few namespaces, so that they repeat often. Some are a prefix of others as text
        /// only.
        fn namespace(&mut self) -> Namespace {
            let depth = self.below(5);
            let segments: Vec<&str> = (0..depth)
                .map(|_| ["a", "a-", "ab", "ü"][self.below(4)])
                .collect();
            namespace(&segments.join("/"))
        }
    }
}

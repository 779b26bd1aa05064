//! The topics: one for each namespace in use, with its log, and the trie that finds them.

use slab::Slab;

use crate::log::EventLog;
use crate::namespace::{Namespace, NamespaceRef};
use crate::trie::Trie;

use super::ids::{GroupId, TopicId};
use super::telemetry::TopicMeter;
use super::topic_usage::TopicUsage;

/// A namespace in use.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) namespace: Namespace,
    pub(super) log: EventLog,
    /// The group of the subscribers of this namespace and no other.
    pub(super) own_group: Option<GroupId>,
    /// The groups of several namespaces that include this one.
    pub(super) shared_groups: Vec<GroupId>,
    /// What the log counts for in the limits of history.
    pub(super) usage: TopicUsage,
    pub(super) meter: TopicMeter,
}

impl Topic {
    /// Makes a topic without subscribers.
    pub(super) fn new(namespace: Namespace, log: EventLog) -> Self {
        Self {
            namespace,
            usage: TopicUsage::of(&log),
            log,
            own_group: None,
            shared_groups: Vec::new(),
            meter: TopicMeter::default(),
        }
    }

    /// The groups that receive the topic's events.
    pub(super) fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.own_group
            .into_iter()
            .chain(self.shared_groups.iter().copied())
    }

    pub(super) fn has_subscribers(&self) -> bool {
        self.own_group.is_some() || !self.shared_groups.is_empty()
    }
}

/// `max_namespaces` is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespacesFull;

/// The topics in use.
#[derive(Debug)]
pub(super) struct Topics {
    slab: Slab<Topic>,
    by_namespace: Trie<TopicId>,
    max_namespaces: usize,
    /// The path collected last. Kept, so that collecting allocates nothing.
    path: Vec<TopicId>,
}

impl std::ops::Index<TopicId> for Topics {
    type Output = Topic;

    fn index(&self, TopicId(key): TopicId) -> &Topic {
        &self.slab[key as usize]
    }
}

impl std::ops::IndexMut<TopicId> for Topics {
    fn index_mut(&mut self, TopicId(key): TopicId) -> &mut Topic {
        &mut self.slab[key as usize]
    }
}

impl Topics {
    pub(super) fn new(max_namespaces: usize) -> Self {
        Self {
            slab: Slab::new(),
            by_namespace: Trie::new(),
            max_namespaces,
            path: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn get_mut(&mut self, TopicId(key): TopicId) -> Option<&mut Topic> {
        self.slab.get_mut(key as usize)
    }

    /// The topic of a namespace, if it is in use.
    pub(super) fn find(&self, namespace: &Namespace) -> Option<TopicId> {
        self.by_namespace.get(namespace).copied()
    }

    /// The topic of a namespace. If it is not in use, makes one with a log from `new_log`.
    ///
    /// # Errors
    /// The namespace is not in use, and `max_namespaces` is reached.
    pub(super) fn find_or_insert(
        &mut self,
        namespace: &Namespace,
        new_log: impl FnOnce(&Namespace) -> EventLog,
    ) -> Result<TopicId, NamespacesFull> {
        let slab = &mut self.slab;
        let new = || {
            let topic = Topic::new(namespace.clone(), new_log(namespace));
            TopicId(slab.insert(topic) as u32)
        };
        match self
            .by_namespace
            .insert_with(namespace, self.max_namespaces, new)
        {
            Ok(topic) => Ok(*topic),
            Err(_) => Err(NamespacesFull),
        }
    }

    /// Collects the topics in use on the way from the root to a namespace. They are read with
    /// [`Topics::on_path`].
    pub(super) fn collect_path(&mut self, namespace: NamespaceRef<'_>) {
        let path = &mut self.path;
        path.clear();
        self.by_namespace
            .for_each_on_path(namespace.segments(), |topic| path.push(*topic));
    }

    /// Collects the topics on the way from the root to a namespace. Makes those that are not in
    /// use.
    ///
    /// # Errors
    /// The depth of the first namespace for which there is no room. The topics above it are
    /// collected.
    pub(super) fn fill_path(
        &mut self,
        namespace: NamespaceRef<'_>,
        mut new_log: impl FnMut(&Namespace) -> EventLog,
    ) -> Result<(), usize> {
        let Self {
            slab,
            by_namespace,
            max_namespaces,
            path,
        } = self;
        path.clear();
        by_namespace.fill_path(namespace.segments(), *max_namespaces, |depth, topic| {
            let id = *topic.get_or_insert_with(|| {
                let namespace = namespace.ancestor(depth);
                let log = new_log(&namespace);
                TopicId(slab.insert(Topic::new(namespace, log)) as u32)
            });
            path.push(id);
        })
    }

    /// The topic at an index of the collected path, which begins at the root.
    pub(super) fn on_path(&self, index: usize) -> Option<TopicId> {
        self.path.get(index).copied()
    }

    /// The last topic of the collected path.
    pub(super) fn end_of_path(&self) -> Option<TopicId> {
        self.path.last().copied()
    }

    /// Removes a topic that has neither subscribers nor events.
    pub(super) fn remove(&mut self, TopicId(key): TopicId) -> Topic {
        let topic = self.slab.remove(key as usize);
        self.by_namespace.remove(&topic.namespace);
        topic
    }

    /// Calls `each` with the topics of `namespace` and of all namespaces below it.
    pub(super) fn for_each_under(&self, namespace: &Namespace, mut each: impl FnMut(&Topic)) {
        self.by_namespace
            .for_each_under(namespace, |id| each(&self[*id]));
    }

    /// Number of namespaces in use one level below this one.
    #[cfg(feature = "admin")]
    pub(super) fn children(&self, namespace: &Namespace) -> usize {
        self.by_namespace.children(namespace)
    }

    /// All topics, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicId, &Topic)> {
        self.slab
            .iter()
            .map(|(key, topic)| (TopicId(key as u32), topic))
    }

    /// The first topic from a key on, and the key after it, for a walk that may stop and continue.
    pub(super) fn next_from(&self, key: usize) -> Option<(usize, TopicId)> {
        let keys = key..self.slab.capacity();
        let key = keys.into_iter().find(|key| self.slab.contains(*key))?;
        Some((key + 1, TopicId(key as u32)))
    }

    /// Asserts that the trie finds each topic, and what the logs promise.
    pub(super) fn check(&self) {
        assert_eq!(self.slab.len(), self.by_namespace.len());
        for (id, topic) in self.iter() {
            assert_eq!(
                self.find(&topic.namespace),
                Some(id),
                "{}",
                topic.namespace.as_str()
            );
            topic.log.check();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::name;

    fn log(_: &Namespace) -> EventLog {
        EventLog::default()
    }

    fn topics_of(paths: &[&str], max_namespaces: usize) -> Topics {
        let mut topics = Topics::new(max_namespaces);
        for path in paths {
            topics.find_or_insert(&name(path), log).unwrap();
        }
        topics
    }

    fn collected(topics: &Topics) -> Vec<&str> {
        let ids = (0..).map_while(|index| topics.on_path(index));
        ids.map(|id| topics[id].namespace.as_str()).collect()
    }

    #[test]
    fn a_path_has_the_topics_in_use_from_the_root_down() {
        let mut topics = topics_of(&["/a/b/c", "/a", "/ab", "/x"], 100);
        for (path, found) in [
            ("/", &[][..]),
            ("/a", &["/a"]),
            ("/a/b", &["/a"]),
            ("/a/b/c/d", &["/a", "/a/b/c"]),
            ("/abc", &[]),
        ] {
            topics.collect_path(name(path).by_ref());
            assert_eq!(collected(&topics), found, "{path}");
            let end = topics.end_of_path();
            assert_eq!(end, found.last().and_then(|path| topics.find(&name(path))));
        }
    }

    #[test]
    fn a_path_is_filled_as_far_as_there_is_room() {
        for (max_namespaces, result, found) in [
            (3, Ok(()), &["/", "/a", "/a/b", "/a/b/c"][..]),
            (2, Err(3), &["/", "/a", "/a/b"]),
            (1, Err(2), &["/", "/a"]),
        ] {
            let mut topics = topics_of(&["/a"], max_namespaces);
            let filled = topics.fill_path(name("/a/b/c").by_ref(), log);
            assert_eq!(filled, result, "{max_namespaces}");
            assert_eq!(collected(&topics), found, "{max_namespaces}");
            topics.check();
        }
    }

    #[test]
    fn a_namespace_has_one_topic_until_that_is_removed() {
        let mut topics = topics_of(&["/a"], 1);
        let id = topics.find(&name("/a")).unwrap();
        assert_eq!(topics.find_or_insert(&name("/a"), log), Ok(id));
        assert_eq!(topics.find_or_insert(&name("/b"), log), Err(NamespacesFull));
        assert_eq!(topics.remove(id).namespace, name("/a"));
        assert_eq!((topics.len(), topics.find(&name("/a"))), (0, None));
        assert!(topics.find_or_insert(&name("/b"), log).is_ok());
        topics.check();
    }

    #[test]
    fn a_walk_visits_the_topics_that_are_there() {
        let mut topics = topics_of(&["/a", "/b", "/c"], 3);
        let gone = topics.find(&name("/b")).unwrap();
        topics.remove(gone);
        let (mut key, mut visited) = (0, Vec::new());
        while let Some((next, id)) = topics.next_from(key) {
            visited.push(topics[id].namespace.as_str());
            key = next;
        }
        assert_eq!(visited, ["/a", "/c"]);
    }
}

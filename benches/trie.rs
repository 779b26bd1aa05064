//! The cost of finding the namespaces that an event reaches, compared with a naive scan of a list:
//! `cargo bench --bench trie`.
//!
//! With 1 to 100,000 namespaces: the path from the root to a namespace, as for each event; all
//! descendants of a namespace; and the insertion and removal of one. Also the path at several
//! depths. Throughput is in values found, or in namespaces inserted and removed.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use fanfare::Namespace;
use fanfare::internals::Trie;

/// Numbers of namespaces.
const SIZES: [usize; 4] = [1, 100, 10_000, 100_000];
/// Numbers of segments in a namespace.
const DEPTHS: [usize; 3] = [1, 4, 16];
/// Namespaces that share a parent.
const SIBLINGS: usize = 100;

/// The same namespaces in a trie and in a list.
struct Both {
    trie: Trie<usize>,
    list: Vec<(Namespace, usize)>,
}

impl Both {
    fn of(names: impl Iterator<Item = Namespace>) -> Self {
        let list: Vec<_> = names.enumerate().map(|(at, name)| (name, at)).collect();
        let mut trie = Trie::new();
        for (name, value) in &list {
            insert(&mut trie, name, *value);
        }
        Self { trie, list }
    }

    /// `count` namespaces, of which up to [`SIBLINGS`] share a parent.
    fn siblings(count: usize) -> Self {
        Self::of((0..count).map(|n| name(&format!("/group-{}/name-{n}", n / SIBLINGS))))
    }

    fn on_path(&mut self, name: &Namespace) -> usize {
        let mut sum = 0;
        self.trie
            .for_each_on_path(name.segments(), |value| sum += *value);
        sum
    }

    fn naive_on_path(&self, name: &Namespace) -> usize {
        sum_of(&self.list, |other| other.contains(name))
    }

    fn under(&self, name: &Namespace) -> usize {
        let mut sum = 0;
        self.trie.for_each_under(name, |value| sum += *value);
        sum
    }

    fn naive_under(&self, name: &Namespace) -> usize {
        sum_of(&self.list, |other| name.contains(other))
    }

    fn come_and_go(&mut self, name: &Namespace) -> Option<usize> {
        insert(&mut self.trie, name, 7);
        self.trie.remove(name)
    }

    fn naive_come_and_go(&mut self, name: &Namespace) -> Option<usize> {
        if self.list.iter().all(|(other, _)| other != name) {
            self.list.push((name.clone(), 7));
        }
        let at = self.list.iter().position(|(other, _)| other == name)?;
        Some(self.list.remove(at).1)
    }
}

fn name(path: &str) -> Namespace {
    Namespace::parse(path).expect("the paths of this benchmark are namespaces")
}

fn insert(trie: &mut Trie<usize>, name: &Namespace, value: usize) {
    trie.insert_with(name, usize::MAX, || value)
        .expect("the number of nodes is unlimited");
}

fn sum_of(list: &[(Namespace, usize)], is_match: impl Fn(&Namespace) -> bool) -> usize {
    let found = list.iter().filter(|(other, _)| is_match(other));
    found.map(|(_, value)| value).sum()
}

/// Measures both with the same query, after checking that their results are equal.
fn compare<A: PartialEq + std::fmt::Debug>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    (size, found): (usize, usize),
    mut both: Both,
    fanfare: impl Fn(&mut Both) -> A,
    naive: impl Fn(&mut Both) -> A,
) {
    assert_eq!(fanfare(&mut both), naive(&mut both));
    group.throughput(Throughput::Elements(found as u64));
    group.bench_function(BenchmarkId::new("fanfare", size), |b| {
        b.iter(|| fanfare(&mut both));
    });
    group.bench_function(BenchmarkId::new("naive", size), |b| {
        b.iter(|| naive(&mut both));
    });
}

fn on_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trie/path, by namespaces");
    for size in SIZES {
        let both = Both::siblings(size);
        let name = both.list[size / 2].0.clone();
        compare(
            &mut group,
            (size, 1),
            both,
            |both| both.on_path(black_box(&name)),
            |both| both.naive_on_path(black_box(&name)),
        );
    }
    group.finish();
    let mut group = criterion.benchmark_group("trie/path, by depth");
    for depth in DEPTHS {
        let both = Both::of((1..=depth).map(|depth| name(&"/segment".repeat(depth))));
        let name = both.list[depth - 1].0.clone();
        compare(
            &mut group,
            (depth, depth),
            both,
            |both| both.on_path(black_box(&name)),
            |both| both.naive_on_path(black_box(&name)),
        );
    }
    group.finish();
}

fn under(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trie/under, by namespaces");
    let name = name("/group-0");
    for size in SIZES {
        compare(
            &mut group,
            (size, size.min(SIBLINGS)),
            Both::siblings(size),
            |both| both.under(black_box(&name)),
            |both| both.naive_under(black_box(&name)),
        );
    }
    group.finish();
}

fn come_and_go(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trie/come and go, by namespaces");
    let name = name("/group-0/new/name");
    for size in SIZES {
        compare(
            &mut group,
            (size, 1),
            Both::siblings(size),
            |both| both.come_and_go(black_box(&name)),
            |both| both.naive_come_and_go(black_box(&name)),
        );
    }
    group.finish();
}

criterion_group!(benches, on_path, under, come_and_go);
criterion_main!(benches);

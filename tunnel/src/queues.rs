//! Queues of several sources within one bound: whoever floods his own pushes out nothing of another.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::fmt::Debug;
use std::iter::Peekable;

/// What waits in a queue.
pub trait Item {
    /// What has a queue of its own.
    type Source: Copy + Debug + PartialEq;

    /// Whose it is.
    fn source(&self) -> Self::Source;

    /// Its place among those of all sources.
    fn number(&self) -> u64;

    /// What it takes, in bytes.
    fn cost(&self) -> usize;
}

/// How much all queues together may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// How many items.
    pub items: usize,
    /// How many bytes these may take.
    pub bytes: usize,
}

/// A queue for each source. They are read as if they were one.
#[derive(Debug)]
pub struct Queues<T: Item> {
    /// They are few.
    queues: Vec<Queue<T>>,
    bound: Bound,
    items: usize,
    bytes: usize,
}

/// The items of one source, in the order of their numbers.
#[derive(Debug)]
struct Queue<T: Item> {
    source: T::Source,
    items: VecDeque<T>,
    bytes: usize,
}

impl<T: Item> Queues<T> {
    /// With nothing in them.
    #[must_use]
    pub const fn new(bound: Bound) -> Self {
        Self { queues: Vec::new(), bound, items: 0, bytes: 0 }
    }

    /// Adds an item that comes after all others of its source, whether or not there is room.
    pub fn push(&mut self, item: T) {
        self.add(item, VecDeque::push_back);
    }

    /// Adds an item that comes before all others of its source, whether or not there is room.
    pub fn put_back(&mut self, item: T) {
        self.add(item, VecDeque::push_front);
    }

    /// Takes out the item of the lowest number.
    pub fn pop(&mut self) -> Option<T> {
        self.take(|number, _| number)
    }

    /// Takes out what has to give way next, if there is too much: the oldest item of the longest
    /// queue, or of the one that takes most where it is bytes that are too many.
    pub fn excess(&mut self) -> Option<T> {
        if self.items > self.bound.items {
            self.take(|number, queue| (Reverse(queue.items.len()), number))
        } else if self.bytes > self.bound.bytes {
            self.take(|number, queue| (Reverse(queue.bytes), number))
        } else {
            None
        }
    }

    /// Those from a number on, in the order of their numbers.
    pub fn from(&self, number: u64) -> impl Iterator<Item = &T> {
        let queues = self.queues.iter().map(|queue| {
            let before = queue.items.partition_point(|item| item.number() < number);
            queue.items.range(before..).peekable()
        });
        Merged { queues: queues.collect() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// How many bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes out the first item of the queue that comes first by its key: what `key` makes of the
    /// number of that item, and of the queue.
    fn take<K: Copy + Ord>(&mut self, key: impl Fn(u64, &Queue<T>) -> K) -> Option<T> {
        let queues = self.queues.iter_mut();
        let keyed =
            queues.filter_map(|queue| Some((key(queue.items.front()?.number(), queue), queue)));
        let (_, queue) = keyed.min_by_key(|(key, _)| *key)?;
        let item = queue.pop()?;
        self.items -= 1;
        self.bytes -= item.cost();
        Some(item)
    }

    fn add(&mut self, item: T, add: impl FnOnce(&mut VecDeque<T>, T)) {
        let (source, cost) = (item.source(), item.cost());
        let known = self.queues.iter().position(|queue| queue.source == source);
        let index = known.unwrap_or_else(|| {
            self.queues.push(Queue { source, items: VecDeque::new(), bytes: 0 });
            self.queues.len() - 1
        });
        let queue = &mut self.queues[index];
        add(&mut queue.items, item);
        queue.bytes += cost;
        self.items += 1;
        self.bytes += cost;
    }
}

impl<T: Item> Queue<T> {
    fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.bytes -= item.cost();
        if self.items.len() < self.items.capacity() / 4 {
            // After a burst it would keep its largest size.
            self.items.shrink_to(2 * self.items.len().max(FEW));
        }
        Some(item)
    }
}

/// Several queues as one.
struct Merged<'a, T> {
    queues: Vec<Peekable<Iter<'a, T>>>,
}

impl<'a, T: Item> Iterator for Merged<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let queues = self.queues.iter_mut();
        let first = queues.filter_map(|queue| Some((queue.peek()?.number(), queue)));
        first.min_by_key(|(number, _)| *number)?.1.next()
    }
}

/// For how many items a queue always has room.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Thing {
        source: u8,
        number: u64,
        cost: usize,
    }

    impl Item for Thing {
        type Source = u8;

        fn source(&self) -> u8 {
            self.source
        }

        fn number(&self) -> u64 {
            self.number
        }

        fn cost(&self) -> usize {
            self.cost
        }
    }

    fn queues(items: usize, bytes: usize) -> Queues<Thing> {
        Queues::new(Bound { items, bytes })
    }

    /// Adds one of a source, and returns the numbers of those that give way.
    fn push(queues: &mut Queues<Thing>, source: u8, number: u64, cost: usize) -> Vec<u64> {
        queues.push(Thing { source, number, cost });
        std::iter::from_fn(|| queues.excess()).map(|thing| thing.number).collect()
    }

    fn numbers(queues: &Queues<Thing>, from: u64) -> Vec<u64> {
        queues.from(from).map(|thing| thing.number).collect()
    }

    #[test]
    fn a_flood_pushes_out_nothing_but_its_own() {
        let mut queues = queues(10, 1000);
        for number in [1, 3, 5] {
            push(&mut queues, 7, number, 1);
            push(&mut queues, 8, number + 1, 1);
        }
        let flood = 7..1007;
        let lost: Vec<_> = flood.flat_map(|number| push(&mut queues, 8, number, 1)).collect();
        assert_eq!(lost.len(), 1000 - 4);
        assert!(!lost.contains(&1) && lost.starts_with(&[2, 4, 6, 7, 8]), "{:?}", &lost[..9]);
        assert_eq!(numbers(&queues, 0), [1, 3, 5, 1000, 1001, 1002, 1003, 1004, 1005, 1006]);
        assert_eq!(numbers(&queues, 4)[..2], [5, 1000]);
        assert_eq!((queues.len(), queues.bytes()), (10, 10));
    }

    #[test]
    fn floods_share_the_room() {
        let mut queues = queues(100, 10_000);
        for number in 0..3000 {
            // One of them floods nine times as much as another.
            push(&mut queues, u8::from(number % 10 == 0), number, 1);
        }
        let of = |source| queues.from(0).filter(|thing| thing.source == source).count();
        assert_eq!((of(0), of(1)), (50, 50));
    }

    #[test]
    fn a_long_item_does_not_give_way_to_many_short_ones() {
        let mut queues = queues(1000, 1000);
        push(&mut queues, 1, 0, 400);
        for number in 1..1000 {
            assert!(!push(&mut queues, 2, number, 10).contains(&0));
        }
        assert_eq!((queues.len(), queues.bytes()), (61, 1000));
    }

    #[test]
    fn what_comes_back_is_the_first_again() {
        let mut queues = queues(3, 100);
        for (source, number) in [(1, 1), (2, 2), (1, 3)] {
            push(&mut queues, source, number, 1);
        }
        let taken: Vec<_> = (0..2).map(|_| queues.pop().unwrap()).collect();
        push(&mut queues, 1, 4, 1);
        taken.into_iter().rev().for_each(|thing| queues.put_back(thing));
        assert_eq!(numbers(&queues, 0), [1, 2, 3, 4]);
        assert_eq!(queues.excess().unwrap().number, 1);
        assert!(queues.excess().is_none());
        assert_eq!(std::iter::from_fn(|| queues.pop()).count(), 3);
        assert!(queues.is_empty() && queues.bytes() == 0);
    }

    #[test]
    fn a_burst_leaves_no_large_queue_behind() {
        let mut queues = queues(10_000, 10_000);
        (0..10_000).for_each(|number| drop(push(&mut queues, 1, number, 1)));
        while queues.len() > 5 {
            queues.pop();
        }
        let room = queues.queues[0].items.capacity();
        assert!(room <= 4 * FEW, "{room}");
    }

    proptest! {
        #[test]
        fn they_are_within_their_bound_and_in_order(
            things in proptest::collection::vec((0u8..4, 1usize..50, any::<bool>()), 0..200),
        ) {
            let mut queues = queues(20, 300);
            let mut waiting = Vec::new();
            for (number, (source, cost, takes)) in (0..).zip(things) {
                waiting.push((source, number));
                for lost in push(&mut queues, source, number, cost) {
                    let index = waiting.iter().position(|(_, waits)| *waits == lost).unwrap();
                    let (source, _) = waiting.remove(index);
                    // The oldest of its source.
                    prop_assert!(waiting[..index].iter().all(|(other, _)| *other != source));
                }
                if takes {
                    let first = queues.pop().map(|thing| thing.number);
                    prop_assert_eq!(first, (!waiting.is_empty()).then(|| waiting.remove(0).1));
                }
                prop_assert!(queues.len() <= 20 && queues.bytes() <= 300);
                let expected: Vec<_> = waiting.iter().map(|(_, number)| *number).collect();
                prop_assert_eq!(numbers(&queues, 0), expected);
            }
        }
    }
}

//! Numbered places.

use slab::Slab;

/// A slab that gives memory back when most of its values have gone.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slab: Slab<T>,
    /// How many slots became free since memory was given back.
    freed: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slab: Slab::new(), freed: 0 }
    }
}

impl<T> Slots<T> {
    /// Puts a value into a free slot, whose key it may know, and gives the key.
    pub(super) fn insert(&mut self, value: impl FnOnce(usize) -> T) -> usize {
        let entry = self.slab.vacant_entry();
        let key = entry.key();
        entry.insert(value(key));
        key
    }

    pub(super) fn get(&self, key: usize) -> Option<&T> {
        self.slab.get(key)
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.slab.get_mut(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Frees the slot, if it is taken.
    pub(super) fn remove(&mut self, key: usize) {
        if self.slab.try_remove(key).is_none() {
            return;
        }
        self.freed += 1;
        // Only the last slots can be given back, and those that are free are listed anew then. So
        // of many not every time; of few, since these may have been the last for a long while.
        if self.slab.capacity() > FEW && self.freed + FEW >= self.slab.len() {
            self.slab.shrink_to_fit();
            self.freed = 0;
        }
    }
}

/// So many are not worth it.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back() {
        let mut slots = Slots::default();
        let mut keys: Vec<_> = (0..10_000).map(|n| slots.insert(|key| (key, n))).collect();
        let stays = keys.swap_remove(5);
        for key in keys {
            slots.remove(key);
        }
        assert_eq!(slots.get(stays), Some(&(5, 5)));
        assert!(slots.slab.capacity() <= FEW, "{}", slots.slab.capacity());
    }
}

//! Independent pieces of work side by side on the CPU.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::device::Compute;

/// How many pieces of work run side by side: one per core on the CPU, where a
/// tensor operation seldom fills more than one; one on a device of its own.
pub fn workers(compute: &Compute) -> usize {
    match compute.is_cpu {
        true => std::thread::available_parallelism().map_or(1, usize::from),
        false => 1,
    }
}

/// Applies `work` to every item and answers the results in the items' order.
///
/// Plain threads rather than a work-stealing pool: a worker that waits for a
/// tensor operation must not start another item with the first one's locks held.
pub fn map<T: Sync, R: Send>(
    items: &[T],
    workers: usize,
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    if workers <= 1 || items.len() <= 1 {
        return items
            .iter()
            .enumerate()
            .map(|(index, item)| work(index, item))
            .collect();
    }
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..workers.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let result = work(index, item);
                    *results[index]
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    // A panic in a worker has been passed on by the scope, so every place is filled.
    results
        .into_iter()
        .filter_map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

/// As [`map`], with items that belong to devices: every device has `workers` threads, which take its
/// items in order. Results are answered in the order of the items.
pub fn map_on_devices<T: Sync, R: Send>(
    items: &[T],
    device_of: impl Fn(&T) -> usize,
    devices: usize,
    workers: usize,
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    if devices <= 1 {
        return map(items, workers, work);
    }
    let mut queues = vec![Vec::new(); devices];
    for (index, item) in items.iter().enumerate() {
        queues[device_of(item)].push(index);
    }
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let (results_of, work) = (&results, &work);
    std::thread::scope(|scope| {
        for queue in &queues {
            scope.spawn(move || {
                let done = map(queue, workers, |_, &index| work(index, &items[index]));
                for (&index, result) in queue.iter().zip(done) {
                    *results_of[index]
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    results
        .into_iter()
        .filter_map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        for workers in [1, 2, 7] {
            let doubled = map(&items, workers, |index, item| {
                assert_eq!(index, *item);
                item * 2
            });
            assert_eq!(doubled, (0..200).step_by(2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn devices_work_on_their_own_items() {
        let items: Vec<usize> = (0..50).collect();
        for (devices, workers) in [(1, 1), (2, 1), (3, 2)] {
            let done = map_on_devices(
                &items,
                |item| item % devices,
                devices,
                workers,
                |_, i| i * 3,
            );
            assert_eq!(done, (0..150).step_by(3).collect::<Vec<_>>());
        }
    }
}

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
    map_on_devices(items, |_| 0, 1, workers, work)
}

/// As [`map`], with items that belong to devices: every device has `workers` threads, which take its
/// items in order.
pub fn map_on_devices<T: Sync, R: Send>(
    items: &[T],
    device_of: impl Fn(&T) -> usize,
    devices: usize,
    workers: usize,
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    if devices * workers <= 1 || items.len() <= 1 {
        return items
            .iter()
            .enumerate()
            .map(|(index, item)| work(index, item))
            .collect();
    }
    let mut queues = vec![Vec::new(); devices];
    for (index, item) in items.iter().enumerate() {
        queues[device_of(item)].push(index);
    }
    let queues: Vec<(Vec<usize>, AtomicUsize)> = queues
        .into_iter()
        .map(|queue| (queue, AtomicUsize::new(0)))
        .collect();
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        let threads = queues.iter().flat_map(|queue| {
            let threads = workers.min(queue.0.len());
            std::iter::repeat_n(queue, threads)
        });
        let (results, work) = (&results, &work);
        let threads: Vec<_> = threads
            .map(|(queue, next)| {
                scope.spawn(move || {
                    while let Some(&index) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let result = work(index, &items[index]);
                        *results[index]
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner) = Some(result);
                    }
                })
            })
            .collect();
        for thread in threads {
            // The scope alone would say no more than that a thread panicked.
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    // No thread panicked, so every place is filled.
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
    fn the_text_of_a_panic_comes_through() {
        let panic = std::panic::catch_unwind(|| {
            map(&[1, 2, 3], 2, |_, item| {
                assert_ne!(*item, 2, "two is not allowed")
            })
        });
        let text = panic.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("two is not allowed"));
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

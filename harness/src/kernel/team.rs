//! Threads that wait for the next piece of work awake.
//!
//! A decoding step hands out some hundred pieces of work that take microseconds each; waking a sleeping thread takes longer than that. Inside
//! [`with_team`] the pool's other threads spin between pieces. They are asked, not needed: a piece that no other thread takes is done by the
//! caller, so a busy pool or machine slows the work down and stops nothing.
#![expect(unsafe_code, reason = "a job lives on its caller's stack while other threads run it; the caller waits for all of them")]

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Spins before a waiting thread lets others have its core.
const SPINS: u32 = 4096;

type Job = dyn Fn(usize) + Sync;
type Panic = Box<dyn std::any::Any + Send>;

/// Some threads that share loops. A team of one is the calling thread alone.
pub struct Team<'a> {
    shared: Option<&'a Shared>,
    threads: usize,
}

/// What the threads of a team look at.
struct Shared {
    /// Number of the job in the upper 32 bits, its pieces in the next 16, pieces taken in the lowest 16.
    state: AtomicU64,
    /// Pieces done.
    done: AtomicUsize,
    exit: AtomicBool,
    /// Written by the caller while no piece of the last job is open, read by whoever holds a piece.
    job: UnsafeCell<Option<*const Job>>,
    panic: Mutex<Option<Panic>>,
}

// SAFETY: `job` is written only when all pieces of the job before are done, and read only by a thread that holds a piece of the current one;
// the release and acquire of `state` and `done` order the two.
unsafe impl Sync for Shared {}

fn pieces(state: u64) -> u64 {
    state >> 16 & 0xffff
}

fn taken(state: u64) -> u64 {
    state & 0xffff
}

/// Runs `work` with a team of up to `threads` threads of the current pool.
pub fn with_team<R: Send>(threads: usize, work: impl FnOnce(&Team) -> R + Send) -> R {
    let threads = threads.min(rayon::current_num_threads());
    if threads <= 1 {
        return work(&Team::solo());
    }
    let shared = Shared {
        state: AtomicU64::new(0),
        done: AtomicUsize::new(0),
        exit: AtomicBool::new(false),
        job: UnsafeCell::new(None),
        panic: Mutex::new(None),
    };
    rayon::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|_| shared.serve());
        }
        // The others must be let go whatever happens, or the scope would wait for ever.
        let result = catch_unwind(AssertUnwindSafe(|| work(&Team { shared: Some(&shared), threads })));
        shared.exit.store(true, Ordering::Release);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

impl Team<'_> {
    /// The calling thread alone.
    pub fn solo() -> Self {
        Self { shared: None, threads: 1 }
    }

    /// Threads that may take part.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `piece(index)` once for every index below `count`, on any threads, and returns when all are done.
    ///
    /// # Panics
    /// With the first panic of a piece.
    pub fn run(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        match self.shared {
            Some(shared) if count > 1 => shared.lead(count, piece),
            _ => (0..count).for_each(piece),
        }
    }

    /// Calls `kernel(first row, rows)` for consecutive parts of `out`, whose rows are `width` long: parts of at least `least` elements.
    pub fn rows(&self, out: &mut [f32], width: usize, least: usize, kernel: impl Fn(usize, &mut [f32]) + Sync) {
        let rows = out.len() / width.max(1);
        let parts = (out.len() / least.max(1)).clamp(1, self.threads).min(rows.max(1));
        if parts == 1 {
            return kernel(0, out);
        }
        self.each(split_rows(out, width, parts), |(first, part)| kernel(first, part));
    }

    /// Calls `work` once for every item.
    pub fn each<T: Send>(&self, items: Vec<T>, work: impl Fn(T) + Sync) {
        if self.shared.is_none() || items.len() < 2 {
            return items.into_iter().for_each(work);
        }
        let cells: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        self.run(cells.len(), &|index| {
            let item = cells[index].lock().expect("a cell is opened once").take().expect("a piece is taken once");
            work(item);
        });
    }
}

/// Parts of whole rows, each with the number of its first row.
fn split_rows(mut out: &mut [f32], width: usize, parts: usize) -> Vec<(usize, &mut [f32])> {
    let rows = out.len() / width;
    let mut split = Vec::with_capacity(parts);
    for part in 0..parts {
        let (first, end) = (part * rows / parts, (part + 1) * rows / parts);
        let (own, rest) = out.split_at_mut((end - first) * width);
        split.push((first, own));
        out = rest;
    }
    split
}

impl Shared {
    /// Another thread's life: a piece where there is one, until the caller lets it go.
    fn serve(&self) {
        let mut spins = 0;
        while !self.exit.load(Ordering::Acquire) {
            if self.take() {
                spins = 0;
                continue;
            }
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    fn lead(&self, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        assert!(count < 1 << 15, "a job of {count} pieces");
        // SAFETY: the lifetime is widened for the time of this call only: it returns when every piece is done.
        let job: *const Job = std::ptr::from_ref(unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &Job>(piece) });
        // SAFETY: every piece of the job before is done, so nobody reads the cell.
        unsafe { *self.job.get() = Some(job) };
        self.done.store(0, Ordering::Relaxed);
        let number = (self.state.load(Ordering::Relaxed) >> 32) + 1;
        self.state.store(number << 32 | (count as u64) << 16, Ordering::Release);
        while self.take() {}
        let mut spins = 0u32;
        while self.done.load(Ordering::Acquire) < count {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        if let Some(panic) = self.panic.lock().expect("nobody panics while holding it").take() {
            resume_unwind(panic);
        }
    }

    /// Does one piece of the current job, if one is left.
    fn take(&self) -> bool {
        let seen = self.state.load(Ordering::Acquire);
        if taken(seen) >= pieces(seen) {
            return false;
        }
        let state = self.state.fetch_add(1, Ordering::AcqRel);
        let index = taken(state);
        if index >= pieces(state) {
            return false;
        }
        // SAFETY: this thread holds an undone piece, so the caller waits inside `lead` and the job is the current one and alive.
        let job = unsafe { &*(*self.job.get()).expect("a job with pieces") };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(index as usize))) {
            self.panic.lock().expect("nobody panics while holding it").get_or_insert(panic);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    #[test]
    fn every_piece_is_done_once_in_thousands_of_small_jobs() {
        for threads in [1, 2, 5] {
            let counts: Vec<AtomicUsize> = (0..7).map(|_| AtomicUsize::new(0)).collect();
            in_pool(threads, || {
                with_team(threads, |team| {
                    for job in 0..20_000 {
                        team.run(1 + job % 7, &|index| {
                            counts[index].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            });
            let expected: Vec<usize> = (0..7).map(|index| (0..20_000).filter(|job| job % 7 >= index).count()).collect();
            assert_eq!(counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_team_whose_threads_are_busy_elsewhere_still_ends() {
        in_pool(2, || {
            // Both threads lead a team at once: neither has another thread to itself.
            let sums = rayon::join(|| sum_of_squares(2), || sum_of_squares(2));
            assert_eq!(sums, (328_350, 328_350));
        });
    }

    fn sum_of_squares(threads: usize) -> usize {
        let sum = AtomicUsize::new(0);
        with_team(threads, |team| {
            team.run(100, &|index| {
                sum.fetch_add(index * index, Ordering::Relaxed);
            });
        });
        sum.into_inner()
    }

    #[test]
    fn rows_and_items_are_split_without_a_rest() {
        in_pool(3, || {
            with_team(3, |team| {
                let mut out = vec![0.0; 10 * 4];
                team.rows(&mut out, 4, 1, |first, rows| {
                    rows.chunks_exact_mut(4).enumerate().for_each(|(i, row)| row.fill((first + i) as f32));
                });
                assert!(out.chunks_exact(4).enumerate().all(|(i, row)| row == [i as f32; 4]));
                team.rows(&mut [], 4, 1, |_, rows| assert!(rows.is_empty()));
                let mut cells = vec![0; 9];
                team.each(cells.iter_mut().enumerate().collect(), |(i, cell)| *cell = i);
                assert_eq!(cells, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
            });
        });
    }

    #[test]
    #[should_panic(expected = "piece 3")]
    fn a_panic_of_a_piece_is_the_callers() {
        in_pool(2, || with_team(2, |team| team.run(8, &|index| assert!(index != 3, "piece {index}"))));
    }
}

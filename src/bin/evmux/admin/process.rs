//! What the kernel says of this process: proc(5).

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The processor time that all threads have used.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// How many descriptors are open. None of these can be learnt when there is no descriptor to read
/// it with.
pub(super) fn open_descriptors() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // The one by which the others are listed is gone.
    Some(entries.saturating_sub(1))
}

/// How many there may be: the soft limit.
pub(super) fn max_descriptors() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    value(&limits, "Max open files")?.parse().ok()
}

/// Bytes of memory: in all, and of those resident.
pub(super) fn memory() -> Option<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = |name| value(&status, name)?.parse::<u64>().ok();
    Some((kibibytes("VmSize:")? * 1024, kibibytes("VmRSS:")? * 1024))
}

/// The first word behind `name`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_this_process() {
        let open = open_descriptors().expect("the descriptors");
        let most = max_descriptors().expect("their limit");
        assert!(open >= 1 && open <= most, "{open} of {most}");
        let (virtual_, resident) = memory().expect("the memory");
        assert!(resident > 100 * 1024 && resident < virtual_, "{resident} of {virtual_}");
        assert!(processor_time() > Duration::ZERO);
    }
}

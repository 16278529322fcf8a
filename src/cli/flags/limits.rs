//! Flags that limit what a container uses: of `run`, `create` and `update`.

use super::container::{bytes, replace};
use crate::base::units::parse_bytes;
use crate::cli::Mistake;
use crate::model::container::Resources;

/// Limits of memory, CPU time and processes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// Memory limit
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Memory with swap, -1 for no limit
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    memory_swap: Option<String>,
    /// Memory that it shrinks to when there is little
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// Share of the CPU beside others (1024 is one)
    #[arg(short, long, value_name = "NUMBER")]
    cpu_shares: Option<u64>,
    /// CPU time in a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// That period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Period of real-time tasks, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// How long they may run in it
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// CPUs to run on: 0-3,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Most processes
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
}

impl LimitFlags {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.memory.is_none()
            && self.memory_swap.is_none()
            && self.memory_reservation.is_none()
            && self.cpus.is_none()
            && self.cpu_shares.is_none()
            && self.cpu_quota.is_none()
            && self.cpu_period.is_none()
            && self.cpu_rt_period.is_none()
            && self.cpu_rt_runtime.is_none()
            && self.cpuset_cpus.is_none()
            && self.cpuset_mems.is_none()
            && self.pids_limit.is_none()
    }

    /// Lays the flags over `resources`.
    pub fn apply(&self, resources: &mut Resources) -> Result<(), Mistake> {
        if let Some(memory) = &self.memory {
            resources.memory_bytes = Some(bytes("--memory", memory)?);
        }
        if let Some(text) = &self.memory_swap {
            resources.memory_swap_bytes = Some(memory_swap(text, resources.memory_bytes)?);
        }
        if let Some(text) = &self.memory_reservation {
            resources.memory_reservation_bytes = Some(bytes("--memory-reservation", text)?);
        }
        if self.cpus.is_some() && (self.cpu_quota.is_some() || self.cpu_period.is_some()) {
            return Err(Mistake::usage("--cpus says what --cpu-quota and --cpu-period say: give one or the others"));
        }
        if self.cpus.is_some() {
            (resources.cpu_quota_us, resources.cpu_period_us) = (None, None);
        }
        replace(&mut resources.cpus, &self.cpus);
        replace(&mut resources.cpu_shares, &self.cpu_shares);
        replace(&mut resources.cpu_quota_us, &self.cpu_quota);
        replace(&mut resources.cpu_period_us, &self.cpu_period);
        replace(&mut resources.cpu_rt_period_us, &self.cpu_rt_period);
        replace(&mut resources.cpu_rt_runtime_us, &self.cpu_rt_runtime);
        replace(&mut resources.cpuset_cpus, &self.cpuset_cpus);
        replace(&mut resources.cpuset_mems, &self.cpuset_mems);
        replace(&mut resources.pids, &self.pids_limit);
        Ok(())
    }
}

fn memory_swap(text: &str, memory: Option<u64>) -> Result<i64, Mistake> {
    let size = match text {
        "-1" => Ok(-1),
        text => parse_bytes(text).map(|size| i64::try_from(size).unwrap_or(i64::MAX)),
    };
    let size = size.map_err(|_| Mistake::value("--memory-swap", text, "it takes a size, such as 64m, or -1"))?;
    if size > 0 && memory.is_none_or(|memory| size.unsigned_abs() < memory) {
        let reason = "it counts memory and swap together: give --memory as well, not more than it";
        return Err(Mistake::value("--memory-swap", text, reason));
    }
    Ok(size)
}

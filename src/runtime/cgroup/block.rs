//! Limits on block devices, in the words of both versions of control groups.
//!
//! Shares need a scheduler that knows them (BFQ); without one their files are missing, and they have no effect, as in
//! Docker. Source: <https://docs.kernel.org/admin-guide/cgroup-v1/blkio-controller.html>, cgroup-v2.html (`io.max`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Cgroup, write};
use crate::model::container::BlockLimits;
use crate::runtime::Error;

pub(super) fn limit_legacy(cgroup: &Cgroup, limits: &BlockLimits) -> Result<(), Error> {
    weigh(
        cgroup,
        limits,
        "blkio",
        ["blkio.bfq.weight", "blkio.weight"],
        ["blkio.bfq.weight_device", "blkio.weight_device"],
    )?;
    for (name, list) in [
        ("blkio.throttle.read_bps_device", &limits.read_bytes),
        ("blkio.throttle.write_bps_device", &limits.write_bytes),
        ("blkio.throttle.read_iops_device", &limits.read_operations),
        ("blkio.throttle.write_iops_device", &limits.write_operations),
    ] {
        for (path, rate) in list {
            cgroup.set("blkio", name, &format!("{} {rate}", device(path)?))?;
        }
    }
    Ok(())
}

pub(super) fn limit_unified(cgroup: &Cgroup, limits: &BlockLimits) -> Result<(), Error> {
    weigh(cgroup, limits, "io", ["io.bfq.weight", "io.weight"], ["io.bfq.weight", "io.weight"])?;
    let mut lines: BTreeMap<&PathBuf, String> = BTreeMap::new();
    for (name, list) in [
        ("rbps", &limits.read_bytes),
        ("wbps", &limits.write_bytes),
        ("riops", &limits.read_operations),
        ("wiops", &limits.write_operations),
    ] {
        for (path, rate) in list {
            lines.entry(path).or_default().push_str(&format!(" {name}={rate}"));
        }
    }
    for (path, rates) in lines {
        cgroup.set("io", "io.max", &format!("{}{rates}", device(path)?))?;
    }
    Ok(())
}

fn weigh(
    cgroup: &Cgroup,
    limits: &BlockLimits,
    controller: &'static str,
    files: [&str; 2],
    device_files: [&str; 2],
) -> Result<(), Error> {
    let existing = |names: [&str; 2]| {
        names.into_iter().filter_map(|name| cgroup.file(controller, name)).find(|file| file.exists())
    };
    if let (Some(weight), Some(file)) = (limits.weight, existing(files)) {
        write(&file, &weight.to_string())?;
    }
    for (path, weight) in &limits.weights {
        if let Some(file) = existing(device_files) {
            write(&file, &format!("{} {weight}", device(path)?))?;
        }
    }
    Ok(())
}

/// `major:minor` of a block device.
fn device(path: &Path) -> Result<String, Error> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let failed = |source| Error::Cgroup { operation: "limit the device".into(), path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.file_type().is_block_device() {
        return Err(failed(io::Error::other("it is not a block device")));
    }
    let number = metadata.rdev();
    Ok(format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
}

//! `system enable`, `system disable`: containers with a restart policy come back when the host does.
//!
//! There is no daemon that could do it: one unit of systemd runs `wharf system boot` once.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::base::fs::{Context as _, Durability, create_dir_all, remove_file, write_atomic};
use crate::cli::{Context, Failure, Mistake, Outcome};

/// Start containers with the restart policies always and unless-stopped when the host boots
#[derive(Debug, clap::Args)]
pub struct Enable {}

/// Leave containers as they are when the host boots
#[derive(Debug, clap::Args)]
pub struct Disable {}

/// Start what the restart policies want after a reboot: what the unit does
#[derive(Debug, clap::Args)]
pub struct Boot {}

/// The unit's name.
const UNIT: &str = "wharf.service";
/// Where the administrator's units lie. Source: systemd.unit(5).
const FOLDER: &str = "/etc/systemd/system";
/// Where systemd's programs and units are, whether it runs or not (in a chroot of an image that is being made).
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// Writes the unit and enables it.
pub fn enable(context: &Context, _: &Enable) -> Outcome {
    if !SYSTEMD.iter().any(|folder| Path::new(folder).is_dir()) {
        return Err(Mistake::Usage {
            text: "this host does not boot with systemd".into(),
            hint: Some("have its init run `wharf system boot` once the network is up (cron: `@reboot`)".into()),
        }
        .into());
    }
    let program = std::env::current_exe()?;
    // For the root and run folders; opening the store makes them.
    let engine = context.engine()?;
    let paths = engine.store().paths();
    let path = Path::new(FOLDER).join(UNIT);
    create_dir_all(Path::new(FOLDER))?;
    write_atomic(&path, unit(&program, &paths.root, &paths.run).as_bytes(), Durability::Durable)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).context("change the mode of", &path)?;
    systemctl(&["enable", "--quiet", UNIT])?;
    reload()?;
    let mut out = context.output();
    writeln!(out, "{UNIT} runs {} when the host boots", program.display())?;
    out.flush()?;
    Ok(0)
}

/// Takes the unit away.
pub fn disable(context: &Context, _: &Disable) -> Outcome {
    let path = Path::new(FOLDER).join(UNIT);
    let mut out = context.output();
    if path.exists() {
        systemctl(&["disable", "--quiet", UNIT])?;
        remove_file(&path)?;
        reload()?;
        writeln!(out, "{UNIT} is gone: no container starts when the host boots")?;
    } else {
        writeln!(out, "{UNIT} was not enabled")?;
    }
    out.flush()?;
    Ok(0)
}

/// Starts what is to run again; goes on after a failure.
pub fn boot(context: &Context, _: &Boot) -> Outcome {
    let engine = context.engine()?;
    let failed = engine.start_after_boot();
    for (id, error) in &failed {
        let name = engine.store().containers().spec(id).map_or_else(|_| id.to_string(), |spec| spec.name);
        context.say(&format!("container {name} does not start"));
        context.show_error(error);
    }
    Ok(u8::from(!failed.is_empty()))
}

fn unit(program: &Path, root: &Path, run: &Path) -> String {
    format!(
        "[Unit]
Description=Containers of wharf that start with the host
Wants=network-online.target
After=network-online.target local-fs.target nftables.service firewalld.service
RequiresMountsFor={root}

[Service]
Type=oneshot
RemainAfterExit=yes
Environment={root_variable} {run_variable}
ExecStart={program} system boot
# The containers have a scope of their own, which outlives this unit.
KillMode=process

[Install]
WantedBy=multi-user.target
",
        root = quoted(root.as_os_str()),
        root_variable = quoted(&variable("WHARF_ROOT", root)),
        run_variable = quoted(&variable("WHARF_RUN", run)),
        program = quoted(program.as_os_str()),
    )
}

fn variable(name: &str, value: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(name);
    text.push("=");
    text.push(value);
    text
}

/// A word of a unit file. Source: systemd.syntax(7), systemd.unit(5) for `%`.
fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

/// Only where systemd runs: in a chroot the next boot reads the unit anyway. Source: sd_booted(3).
fn reload() -> Result<(), Failure> {
    if PathBuf::from("/run/systemd/system").is_dir() { systemctl(&["daemon-reload"]) } else { Ok(()) }
}

fn systemctl(words: &[&str]) -> Result<(), Failure> {
    let failed =
        |reason: String| Mistake::Usage { text: format!("systemctl {} {reason}", words.join(" ")), hint: None };
    let output = Command::new("systemctl").args(words).output();
    let output = output.map_err(|error| failed(format!("cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(format!("failed ({}): {said}", output.status)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_unit_are_quoted() {
        let text = unit(Path::new("/opt/my tools/wharf"), Path::new("/srv/100%"), Path::new("/run/wharf"));
        for line in [
            "ExecStart=\"/opt/my tools/wharf\" system boot\n",
            "RequiresMountsFor=\"/srv/100%%\"\n",
            "Environment=\"WHARF_ROOT=/srv/100%%\" \"WHARF_RUN=/run/wharf\"\n",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }
}

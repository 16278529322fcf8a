//! RUN: a command in the embedded runtime, above the layers of its stage; what it writes is the new layer.
//!
//! ```text
//! lower layers ── overlay (volatile) ── upper: the new layer's folder        network: bridge + NAT + DNS,
//!    mounts: context, stages, caches, tmpfs, secrets                                  the host's, or none
//!    output ── lines ── progress; the last of them into the error when the command fails
//! ```
//!
//! Files and folders that exist only because something was mounted there are taken out of the layer again when
//! they are still empty. The security defaults are those of containers.

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use sha2::Sha256;

use super::agent::AgentSocket;
use super::content::field;
use super::dockerfile::instruction::RunNetwork;
use super::dockerfile::lines::Line;
use super::dockerfile::mount::{MountKind, RunMount, Sharing};
use super::error::{Error, RunFailure};
use super::execute::{Executor, Running, digest, identity};
use super::interpret::{RunAction, clean, proxy_environment};
use super::plan::Origin;
use super::request::BuildNetwork;
use super::run_network::RunNet;
use super::run_spec::container_spec;
use super::tree::{Meta, Tree, look_at, names_in};
use crate::base::fs::{self, Context};
use crate::base::id::Digest;
use crate::model::container::{InlineContent, InlineFile};
use crate::model::event::EventStatus;
use crate::model::image::LayerRecord;
use crate::runtime::{self, Cgroup, Joins, Launch, ResolvedMount, ResolvedSource, RootFs, Stdio, UpperLayer};
use crate::store::CacheMount;

/// Lines of output that a failure shows again.
const LAST_LINES: usize = 20;
/// Longest line of output that is passed on whole; the rest follows as further lines.
const LINE_BYTES_MAX: usize = 64 << 10;
/// How often a running command looks whether another step failed.
const CANCEL_POLL: Duration = Duration::from_millis(200);
/// Folders and files that the runtime mounts something on.
const MOUNT_POINTS: [&str; 7] = ["dev", "proc", "sys", "etc/hosts", "etc/resolv.conf", "etc/hostname", "etc"];

impl Executor<'_> {
    /// Everything that a RUN depends on. Proxies, secrets and the content of cache mounts are not part of it.
    pub(super) fn run_key(&self, running: &Running<'_>, action: &RunAction) -> Result<Digest, Error> {
        let mut key = self.key(running, "run");
        for list in [&action.args, &action.env] {
            field(&mut key, &(list.len() as u64).to_le_bytes());
            list.iter().for_each(|text| field(&mut key, text.as_bytes()));
        }
        for text in [&action.cwd, &action.user] {
            field(&mut key, text.as_bytes());
        }
        field(&mut key, format!("{:?} {:?} {}", action.script, action.network, action.insecure).as_bytes());
        field(&mut key, format!("{:?} {:?}", self.request.network, self.request.extra_hosts).as_bytes());
        for (mount, origin) in &action.mounts {
            field(&mut key, format!("{mount:?}").as_bytes());
            self.add_origin(running, &mut key, mount, origin.as_ref())?;
        }
        Ok(digest(key))
    }

    fn add_origin(
        &self,
        running: &Running<'_>,
        key: &mut Sha256,
        mount: &RunMount,
        origin: Option<&Origin>,
    ) -> Result<(), Error> {
        match (mount.kind, origin) {
            (MountKind::Bind, None) => {
                let content = self.context_digest(&running.step.line, mount.source.as_deref().unwrap_or(""))?;
                field(key, &content);
            }
            (MountKind::Bind | MountKind::Cache, Some(origin)) => {
                field(key, identity(&self.layers_of(origin)).as_bytes());
            }
            _ => {}
        }
        Ok(())
    }

    /// Runs the command and commits what it wrote.
    pub(super) fn run_step(&self, running: &Running<'_>, action: &RunAction) -> Result<LayerRecord, Error> {
        let line = &running.step.line;
        self.check_allowed(running, action)?;
        if running.layers.is_empty() {
            let hint = Some("begin the stage with an image, or COPY --from one before".to_owned());
            let message = "a RUN needs a file system: this stage is still empty".to_owned();
            return Err(Error::Syntax { mark: line.mark_of(""), message, hint });
        }
        let writer = self.store.layers().begin()?;
        let work = writer.work_folder()?;
        let below = self.tree(running.layers)?;
        adopt_root(writer.folder(), &below)?;
        let scratch = Scratch::new(self.store.temporary_path()?)?;
        let mut mounts = Mounts::default();
        for (mount, origin) in &action.mounts {
            self.resolve_mount(line, action, mount, origin.as_ref(), &scratch, &mut mounts)?;
        }
        if let Some((name, content)) = &action.script {
            let folder = scratch.folder("pipes")?;
            let path = folder.join(name);
            std::fs::write(&path, content).context("write", &path)?;
            set_mode(&path, 0o755)?;
            set_mode(&folder, 0o755)?;
            mounts.resolved.push(bind("/dev/pipes".into(), folder, None, true));
        }
        let targets = mounts.resolved.iter().map(|mount| mount.target.as_str());
        let stubs = Stubs::new(&below, targets.chain(mounts.files.iter().map(|(file, _)| file.target.as_str())))?;
        let mut env = action.env.clone();
        env.extend(proxy_environment(&self.plan.args));
        env.append(&mut mounts.env);
        let lowers = self.folders(running.layers).into_iter().rev().collect();
        let root =
            RootFs { lowers, upper: Some(UpperLayer { upper: writer.folder().to_owned(), work, volatile: true }) };
        let result = self.execute(running, action, env, root, mounts, &scratch);
        drop(scratch);
        result?;
        stubs.remove_from(writer.folder())?;
        self.commit(writer)
    }

    /// What a step may do only when the caller allowed it, and what it cannot do here.
    fn check_allowed(&self, running: &Running<'_>, action: &RunAction) -> Result<(), Error> {
        let line = &running.step.line;
        let refused = |word: &str, message: String, hint: Option<String>| {
            Err(Error::Syntax { mark: line.mark_of(word), message, hint })
        };
        if action.insecure && !self.request.allow_insecure {
            let hint = Some("pass `--allow security.insecure` if you trust this Dockerfile".to_owned());
            return refused("--security", "security.insecure is not allowed".into(), hint);
        }
        let may_use_host = self.request.allow_host_network || self.request.network == BuildNetwork::Host;
        if action.network == RunNetwork::Host && !may_use_host {
            let hint = Some("pass `--allow network.host` if you trust this Dockerfile".to_owned());
            return refused("--network", "network.host is not allowed".into(), hint);
        }
        let architecture = self.stages.get(&running.stage).map(|stage| stage.state.image.architecture.as_str());
        if let Some(architecture) = architecture
            && let Some(obstacle) = crate::runtime::binfmt::obstacle(architecture)
        {
            let message =
                format!("programs of {architecture} cannot run on this {} host: {obstacle}", std::env::consts::ARCH);
            let hint = "install qemu-user-static with its binfmt handlers (Debian: qemu-user-binfmt), or build there";
            return refused("", message, Some(hint.into()));
        }
        Ok(())
    }

    fn execute(
        &self,
        running: &Running<'_>,
        action: &RunAction,
        env: Vec<String>,
        root: RootFs,
        mounts: Mounts,
        scratch: &Scratch,
    ) -> Result<(), Error> {
        let line = &running.step.line;
        let mut net = RunNet::new(self.store, self.request, action)?;
        let spec = container_spec(self.request, action, env, net.mode());
        let etc = net.prepare_etc(&scratch.folder("etc")?)?;
        let failed = |source: runtime::Error| Error::Run {
            mark: line.mark_of(""),
            source: Box::new(RunFailure::NotStarted(source)),
        };
        // Whatever kills this build from here on, the next command finds what the step has on the host.
        let _claim = self.store.steps().begin(&spec.id)?;
        let cgroup = Cgroup::create(&self.store.paths().instance(), &spec).map_err(failed)?;
        let cleanup = CgroupGuard(&cgroup);
        let (stdin, output, stdout, stderr) = streams().context("make the pipe of", Path::new("RUN"))?;
        let launch = Launch {
            spec: &spec,
            root,
            mounts: mounts.resolved,
            etc,
            files: mounts.files,
            net: net.namespace(),
            joins: Joins::default(),
            cgroup: &cgroup,
            stdio: Stdio::Pipes { stdin, stdout, stderr },
            dies_with_caller: true,
        };
        let prepared = runtime::prepare(&launch).map_err(failed)?;
        // Our copies of the pipe's write ends go with it, so that its end is seen.
        drop(launch);
        let result = net.connect(&spec, &prepared).and_then(|()| {
            let process = prepared.start().map_err(failed)?;
            self.follow(running, &process, output, &mut net)
        });
        drop(cleanup);
        net.disconnect(&spec)?;
        result
    }

    /// Passes output on until the command ends; kills it when another step failed.
    fn follow(
        &self,
        running: &Running<'_>,
        process: &runtime::Running,
        output: OwnedFd,
        net: &mut RunNet<'_>,
    ) -> Result<(), Error> {
        let mut lines = Lines::new(output);
        let mut last: VecDeque<String> = VecDeque::new();
        let mut report = |text: String| {
            self.report(&running.resource, EventStatus::Output, &text);
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(text);
        };
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: CANCEL_POLL.as_nanos() as _ };
        loop {
            let dns = net.dns_fd();
            let mut fds = vec![PollFd::new(&process.pidfd, PollFlags::IN)];
            if let Some(pipe) = lines.pipe() {
                fds.push(PollFd::from_borrowed_fd(pipe, PollFlags::IN));
            }
            if let Some(dns) = dns {
                fds.push(PollFd::from_borrowed_fd(dns, PollFlags::IN));
            }
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(system_error("wait for", error).into()),
            }
            let ended = !fds[0].revents().is_empty();
            lines.read(&mut report).context("read the output of", Path::new("RUN"))?;
            net.serve_dns();
            if self.is_cancelled() {
                // Its cgroup is emptied on the way out, too; the error that is told is the other step's.
                drop(process.signal(libc::SIGKILL));
            }
            if ended {
                break;
            }
        }
        // A process that was left behind may hold the pipe: what is there now is all that counts.
        lines.read(&mut report).context("read the output of", Path::new("RUN"))?;
        lines.flush(&mut report);
        let line = &running.step.line;
        let fail = |failure| Error::Run { mark: line.mark_of(""), source: Box::new(failure) };
        let status = process.wait().map_err(|error| fail(RunFailure::NotStarted(error)))?;
        if status.code == 0 {
            return Ok(());
        }
        let command = running.step.title.clone();
        Err(fail(RunFailure::Exit { command, code: status.code, output: last.into_iter().collect() }))
    }

    fn resolve_mount(
        &self,
        line: &Line,
        action: &RunAction,
        mount: &RunMount,
        origin: Option<&Origin>,
        scratch: &Scratch,
        mounts: &mut Mounts,
    ) -> Result<(), Error> {
        let target = |default: &str| {
            let path = mount.target.as_deref().filter(|path| !path.is_empty()).unwrap_or(default);
            if path.starts_with('/') { clean(path) } else { clean(&format!("{}/{path}", action.cwd)) }
        };
        match mount.kind {
            MountKind::Bind => {
                let target = target(&action.cwd);
                let subpath = mount.source.clone().filter(|source| clean(source) != "/");
                mounts.resolved.push(self.bind_mount(line, mount, origin, target, subpath, scratch)?);
            }
            MountKind::Tmpfs => {
                let source =
                    ResolvedSource::Tmpfs { size_bytes: mount.size_bytes, mode: Some(0o755), options: Vec::new() };
                mounts.resolved.push(ResolvedMount { target: target(&action.cwd), read_only: mount.read_only, source });
            }
            MountKind::Cache => {
                let target = target(&action.cwd);
                let cache = self.cache_mount(line, mount, origin, &target)?;
                mounts.resolved.push(bind(target, cache.folder.clone(), None, mount.read_only));
                mounts.caches.push(cache);
            }
            MountKind::Secret => self.secret_mount(line, mount, &target, mounts)?,
            MountKind::Ssh => self.ssh_mount(line, mount, &target, scratch, mounts)?,
        }
        Ok(())
    }

    fn bind_mount(
        &self,
        line: &Line,
        mount: &RunMount,
        origin: Option<&Origin>,
        target: String,
        subpath: Option<String>,
        scratch: &Scratch,
    ) -> Result<ResolvedMount, Error> {
        let folder = match origin {
            // The context is shown as it lies; where files are ignored, a copy without them.
            None if self.ignore.is_empty() => self.request.context.clone(),
            None => {
                let folder = scratch.folder("context")?;
                self.copy_context(line, mount.source.as_deref().unwrap_or(""), &folder)?;
                folder
            }
            Some(Origin::Folder(path)) => path.clone(),
            Some(Origin::Scratch) => scratch.folder("empty")?,
            Some(origin) => {
                let lowers = self.folders(&self.made_layers_of(origin)?).into_iter().rev().collect();
                // Writes to such a mount are allowed with `rw`, and lost.
                let upper = if mount.read_only { None } else { Some(scratch.upper()?) };
                let source = ResolvedSource::Layers { stack: RootFs { lowers, upper }, subpath };
                return Ok(ResolvedMount { target, read_only: mount.read_only, source });
            }
        };
        if mount.read_only {
            return Ok(bind(target, folder, subpath, true));
        }
        let stack = RootFs { lowers: vec![folder], upper: Some(scratch.upper()?) };
        Ok(ResolvedMount { target, read_only: false, source: ResolvedSource::Layers { stack, subpath } })
    }

    fn cache_mount(
        &self,
        line: &Line,
        mount: &RunMount,
        origin: Option<&Origin>,
        target: &str,
    ) -> Result<CacheMount, Error> {
        let sharing = match mount.sharing.unwrap_or_default() {
            Sharing::Shared => crate::store::Sharing::Shared,
            Sharing::Private => crate::store::Sharing::Private,
            Sharing::Locked => crate::store::Sharing::Locked,
        };
        let id = mount.id.as_deref().unwrap_or(target);
        let namespace = self.plan.args.get("BUILDKIT_CACHE_MOUNT_NS").map_or("", String::as_str);
        let cache = self.store.cache().mount(&format!("{namespace}/{id}"), sharing)?;
        if cache.created {
            if let Some(origin) = origin {
                let source = mount.source.as_deref().unwrap_or("");
                if let Err(error) = self.copy_origin(line, origin, source, &cache.folder) {
                    // Half a seed must not be taken for a cache.
                    drop(fs::remove_dir_all(&cache.folder));
                    return Err(error);
                }
            }
            let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
            std::os::unix::fs::chown(&cache.folder, Some(owner.0), Some(owner.1)).context("own", &cache.folder)?;
            set_mode(&cache.folder, mount.mode.unwrap_or(0o755))?;
        }
        Ok(cache)
    }

    fn ssh_mount(
        &self,
        line: &Line,
        mount: &RunMount,
        target: &dyn Fn(&str) -> String,
        scratch: &Scratch,
        mounts: &mut Mounts,
    ) -> Result<(), Error> {
        let id = mount.id.as_deref().filter(|id| !id.is_empty()).unwrap_or("default");
        let Some(source) = self.request.ssh.get(id) else {
            if !mount.required {
                return Ok(());
            }
            let message = format!("no SSH agent `{id}` was given");
            let hint = Some(format!("pass it with `--ssh {id}`, or `--ssh {id}=SOCKET`"));
            return Err(Error::Syntax { mark: line.mark_of("--mount"), message, hint });
        };
        let number = mounts.agents.len();
        let target = target(&format!("/run/buildkit/ssh_agent.{number}"));
        let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let folder = scratch.folder(&format!("ssh{number}"))?;
        let agent = AgentSocket::new(&folder, source, owner, mount.mode.unwrap_or(0o600))
            .map_err(|source| Error::Agent { mark: line.mark_of("--mount"), source })?;
        mounts.resolved.push(bind(target.clone(), agent.path.clone(), None, false));
        if number == 0 {
            mounts.env.push(format!("SSH_AUTH_SOCK={target}"));
        }
        mounts.agents.push(agent);
        Ok(())
    }

    fn secret_mount(
        &self,
        line: &Line,
        mount: &RunMount,
        target: &dyn Fn(&str) -> String,
        mounts: &mut Mounts,
    ) -> Result<(), Error> {
        let named = mount.source.as_deref().or(mount.id.as_deref()).filter(|id| !id.is_empty());
        let from_target = || mount.target.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let id = named.unwrap_or_else(from_target);
        let content = match self.request.secrets.get(id) {
            None if mount.required => {
                let message = format!("the secret `{id}` was not given");
                let hint = Some(format!("pass it with `--secret id={id},src=FILE`"));
                return Err(Error::Syntax { mark: line.mark_of("--mount"), message, hint });
            }
            None => return Ok(()),
            Some(source) => source.read()?,
        };
        if let Some(name) = &mount.env {
            mounts.env.push(format!("{name}={}", String::from_utf8_lossy(&content)));
            // Only a target asks for a file beside the variable.
            if mount.target.is_none() {
                return Ok(());
            }
        }
        let file = InlineFile {
            target: target(&format!("/run/secrets/{}", id.rsplit('/').next().unwrap_or(id))),
            uid: mount.uid.unwrap_or(0),
            gid: mount.gid.unwrap_or(0),
            mode: mount.mode.unwrap_or(0o400),
            content: InlineContent::Text(String::new()),
        };
        mounts.files.push((file, content));
        Ok(())
    }
}

/// What a command gets besides its root.
#[derive(Default)]
struct Mounts {
    resolved: Vec<ResolvedMount>,
    files: Vec<(InlineFile, Vec<u8>)>,
    env: Vec<String>,
    /// In use until the command ended.
    caches: Vec<CacheMount>,
    /// Serve until the command ended.
    agents: Vec<AgentSocket>,
}

fn bind(target: String, path: PathBuf, subpath: Option<String>, read_only: bool) -> ResolvedMount {
    let source = ResolvedSource::Bind { path, subpath, propagation: None, recursive: true, map_owners: true };
    ResolvedMount { target, read_only, source }
}

fn set_mode(path: &Path, mode: u32) -> fs::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context("change the mode of", path)
}

/// Empties and removes the group of a command, with whatever it left running.
struct CgroupGuard<'a>(&'a Cgroup);

impl Drop for CgroupGuard<'_> {
    fn drop(&mut self) {
        // The command's own result is the one to tell; what stays is found by the next command.
        drop(self.0.kill_all());
        drop(self.0.remove());
    }
}

/// A temporary folder of one step, removed at its end.
struct Scratch {
    folder: PathBuf,
    uppers: std::cell::Cell<u32>,
}

impl Scratch {
    fn new(folder: PathBuf) -> fs::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, uppers: std::cell::Cell::new(0) })
    }

    fn folder(&self, name: &str) -> fs::Result<PathBuf> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A writable layer that is thrown away.
    fn upper(&self) -> fs::Result<UpperLayer> {
        let number = self.uppers.get();
        self.uppers.set(number + 1);
        Ok(UpperLayer {
            upper: self.folder(&format!("upper{number}"))?,
            work: self.folder(&format!("work{number}"))?,
            volatile: true,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is swept once this process is gone.
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Gives the new layer's root the metadata of the root below, which it hides.
fn adopt_root(folder: &Path, below: &Tree) -> Result<(), Error> {
    super::target::Target::new(folder, below)?.finish()?;
    Ok(())
}

/// Mount points that are not in the image.
struct Stubs {
    missing: Vec<PathBuf>,
    /// Folders above them and the times they had.
    parents: Vec<(PathBuf, Meta)>,
}

impl Stubs {
    fn new<'t>(below: &Tree, targets: impl Iterator<Item = &'t str>) -> fs::Result<Self> {
        let mut paths: Vec<PathBuf> = MOUNT_POINTS.iter().map(PathBuf::from).collect();
        for target in targets {
            let target = Path::new(target.trim_start_matches('/'));
            // `dev/pipes` and the like are on a file system of the runtime's own.
            if !target.starts_with("dev") {
                paths.extend(target.ancestors().filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned));
            }
        }
        let mut stubs = Self { missing: Vec::new(), parents: Vec::new() };
        for path in paths {
            match below.look(&path)? {
                None => stubs.missing.push(path.clone()),
                Some(meta) if meta.is_folder() => stubs.parents.push((path.clone(), meta)),
                Some(_) => {}
            }
            if let Some(parent) = path.parent()
                && let Some(meta) = below.look(parent)?.filter(Meta::is_folder)
            {
                stubs.parents.push((parent.to_owned(), meta));
            }
        }
        stubs.missing.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        Ok(stubs)
    }

    /// Removes mount points that are still empty, and folders that are only there because of them.
    fn remove_from(&self, folder: &Path) -> Result<(), Error> {
        let layer = Tree::folder(folder)?;
        let mut touched = Vec::new();
        for path in &self.missing {
            let Some(meta) = look_at(layer.root(), path).context("look at", &folder.join(path))? else { continue };
            let flags = match meta.kind {
                rustix::fs::FileType::Directory => AtFlags::REMOVEDIR,
                rustix::fs::FileType::RegularFile if meta.size == 0 => AtFlags::empty(),
                _ => continue,
            };
            match rustix::fs::unlinkat(layer.root(), path, flags) {
                Ok(()) => touched.push(path.parent().unwrap_or(Path::new("")).to_owned()),
                Err(Errno::NOTEMPTY | Errno::NOENT) => {}
                Err(error) => {
                    return Err(fs::Error { operation: "remove", path: folder.join(path), source: error.into() }.into());
                }
            }
        }
        for (path, before) in &self.parents {
            self.restore(&layer, path, before)?;
        }
        Ok(())
    }

    /// A folder that was only copied up is taken out again when nothing is in it and nothing about it changed.
    fn restore(&self, layer: &Tree, path: &Path, before: &Meta) -> Result<(), Error> {
        let Some(now) = layer.look(path)?.filter(Meta::is_folder) else { return Ok(()) };
        if path.as_os_str().is_empty() || (now.mode, now.uid, now.gid) != (before.mode, before.uid, before.gid) {
            return Ok(());
        }
        let handle = layer.open_folder(path)?;
        if names_in(handle.as_fd()).context("list", &layer.display(path))?.is_empty() && now.mtime_ns >= before.mtime_ns
        {
            // An opaque folder hides what is below it, which is a change.
            let mut value = [0u8; 1];
            if rustix::fs::fgetxattr(&handle, "trusted.overlay.opaque", &mut value).is_err() {
                // What cannot be taken out again does no harm.
                let _: rustix::io::Result<()> = rustix::fs::unlinkat(layer.root(), path, AtFlags::REMOVEDIR);
            }
        }
        Ok(())
    }
}

/// /dev/null for input, and one pipe for both outputs: read end, write end, write end.
fn streams() -> std::io::Result<(OwnedFd, OwnedFd, OwnedFd, OwnedFd)> {
    let null = std::fs::File::open("/dev/null")?.into();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    let second = write.try_clone()?;
    Ok((null, read, write, second))
}

fn system_error(operation: &'static str, errno: Errno) -> fs::Error {
    fs::Error { operation, path: "the command of RUN".into(), source: errno.into() }
}

/// Splits output into lines.
struct Lines {
    pipe: Option<std::fs::File>,
    partial: Vec<u8>,
}

impl Lines {
    fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe.into()), partial: Vec::new() }
    }

    fn pipe(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there.
    fn read(&mut self, report: &mut impl FnMut(String)) -> std::io::Result<()> {
        let mut buffer = [0u8; 16 << 10];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.add(&buffer[..count], report),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn add(&mut self, bytes: &[u8], report: &mut impl FnMut(String)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= LINE_BYTES_MAX {
                self.flush(report);
            }
        }
    }

    fn flush(&mut self, report: &mut impl FnMut(String)) {
        if self.partial.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&self.partial);
        // A carriage return redraws the line: what counts is what stands there at last.
        let text = text.trim_end_matches(['\n', '\r']);
        report(text.rsplit('\r').next().unwrap_or(text).to_owned());
        self.partial.clear();
    }
}

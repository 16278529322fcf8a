//! Containers: their specs, states, names, folders and locks.
//!
//! A container is a folder that appears whole (made below `tmp/`, renamed) and goes whole (renamed into `trash/`).
//! The spec is replaced only where a command changes it (limits, restart policy, networks, name). The state is replaced without fsync: after a power cut the boot id tells that
//! whatever it says has ended.

use std::path::PathBuf;

use super::lock::Lock;
use super::{Error, Kind, Result, Store, names};
use crate::base::fs::{self, Context, Durability};
use crate::base::id::ContainerId;
use crate::base::paths::Paths;
use crate::model::container::{ContainerSpec, ContainerState, MountSource, Status};
use crate::model::journal::Entry;

/// Exit code of a container whose end nobody saw: the host went down with it.
const EXIT_CODE_UNKNOWN: i32 = 255;

/// Whether a container is meant to run, as the last command wished. Survives a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nobody stopped it. The state of one never started is `Created`.
    Running,
    /// A user stopped it: `unless-stopped` leaves it so.
    Stopped,
}

/// Access to containers.
#[derive(Debug, Clone, Copy)]
pub struct Containers<'a> {
    store: &'a Store,
}

impl<'a> Containers<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Makes a container's record and folders under its unique name.
    ///
    /// Durable, except for a container that removes itself when it ends. Errors: `InvalidName`; `NameInUse`;
    /// `NotFound` for a layer that is not (or no longer) in the store.
    pub fn create(&self, spec: &ContainerSpec) -> Result<()> {
        names::check(Kind::Container, &spec.name)?;
        let building = self.store.temporary_path()?;
        for name in ["", "upper", "work", "etc", "files", "logs"] {
            let path = building.join(name);
            std::fs::create_dir(&path).context("create folder", &path)?;
        }
        // The container's user reaches its root through this folder.
        set_mode(&building.join("upper"), 0o755)?;
        super::write_record(&building.join("config.json"), spec, Durability::Volatile)?;
        let state = new_state(self.store.boot_id()?);
        super::write_record(&building.join("state.json"), &state, Durability::Volatile)?;
        let result = self.publish(spec, &building);
        match result {
            Ok(()) => self.store.journal().note(&Entry::of_container(spec, "create")),
            Err(_) => drop(self.store.discard(&building)),
        }
        result
    }

    /// The spec of a container.
    pub fn spec(&self, id: &ContainerId) -> Result<ContainerSpec> {
        super::read_record(&self.folder(id).join("config.json"))?
            .ok_or_else(|| Error::not_found(Kind::Container, id.as_str()))
    }

    /// How a container fares. One that ran when the host went down has exited with code 255.
    pub fn state(&self, id: &ContainerId) -> Result<ContainerState> {
        let path = self.folder(id).join("state.json");
        let boot_id = self.store.boot_id()?;
        let content = match fs::read_optional(&path)? {
            Some(content) => content,
            None if self.exists(id) => return Ok(new_state(boot_id)),
            None => return Err(Error::not_found(Kind::Container, id.as_str())),
        };
        // A power cut may leave an empty file where the kernel had not written the new one yet.
        let state = if content.is_empty() { lost_state() } else { super::parse_record(&path, &content)? };
        Ok(as_of_this_boot(state, boot_id))
    }

    /// Replaces the state. Its boot id is set here.
    pub fn set_state(&self, id: &ContainerId, state: &ContainerState) -> Result<()> {
        let state = ContainerState { boot_id: self.store.boot_id()?.to_owned(), ..state.clone() };
        super::write_record(&self.state_path(id), &state, Durability::Volatile)
    }

    /// All containers in the order of their creation, newest first. Takes no lock; one removed meanwhile is left out.
    pub fn list(&self) -> Result<Vec<(ContainerSpec, ContainerState)>> {
        let mut found = Vec::new();
        for id in self.ids()? {
            match self.spec(&id).and_then(|spec| Ok((spec, self.state(&id)?))) {
                Ok(container) => found.push(container),
                Err(error) if error.is_not_found() => {}
                // Half-made when the power went: the next sweep removes it.
                Err(Error::Corrupt { .. }) if self.is_half_made(&id) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|(a, _), (b, _)| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
        Ok(found)
    }

    /// The ids of all containers.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        let names = super::entries(&self.store.root("containers"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The container with this name, this id, or the only one whose id begins so.
    pub fn find(&self, text: &str) -> Result<ContainerId> {
        if let Ok(id) = text.parse::<ContainerId>()
            && self.exists(&id)
        {
            return Ok(id);
        }
        let name = text.strip_prefix('/').unwrap_or(text);
        if names::check(Kind::Container, name).is_ok()
            && let Some(id) = names::lookup(&self.store.names_folder("containers"), name)?
            && let Ok(id) = id.parse::<ContainerId>()
            && self.exists(&id)
        {
            return Ok(id);
        }
        let ids = self.ids()?.into_iter().map(String::from);
        let id = names::by_prefix(Kind::Container, text, ids)?;
        id.parse().map_err(|_| Error::not_found(Kind::Container, text))
    }

    /// Replaces the spec of a container, which keeps its name. The caller holds its lock.
    pub fn set_spec(&self, spec: &ContainerSpec) -> Result<()> {
        let _names = self.store.lock_names()?;
        let name = self.spec(&spec.id)?.name;
        let spec = ContainerSpec { name, ..spec.clone() };
        super::write_record(&self.folder(&spec.id).join("config.json"), &spec, Durability::Durable)
    }

    /// Gives a container another name.
    pub fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        names::check(Kind::Container, name)?;
        let folder = self.store.names_folder("containers");
        let _names = self.store.lock_names()?;
        let mut spec = self.spec(id)?;
        names::take(Kind::Container, &folder, name, id.as_str(), |holder| self.holds(holder, name))?;
        let old = std::mem::replace(&mut spec.name, name.to_owned());
        super::write_record(&self.folder(id).join("config.json"), &spec, Durability::Durable)?;
        names::release(&folder, &old, id.as_str())?;
        self.store.journal().note(&Entry::of_container(&spec, "rename").with("oldName", format!("/{old}")));
        Ok(fs::sync_folder(&folder)?)
    }

    /// Removes a container: its name, its folder with everything in it, and its run folder.
    ///
    /// The caller holds its lock and has made sure that nothing of it runs. One that is gone already is fine.
    pub fn remove(&self, id: &ContainerId) -> Result<()> {
        let folder = self.folder(id);
        let spec = super::read_record::<ContainerSpec>(&folder.join("config.json")).ok().flatten();
        // Taking the lease may sweep names, which takes their lock.
        self.store.lease()?;
        let trashed = {
            let _names = self.store.lock_names()?;
            let trashed = self.store.move_to_trash(&folder)?;
            if let Some(spec) = &spec {
                names::release(&self.store.names_folder("containers"), &spec.name, id.as_str())?;
            }
            trashed
        };
        if let (Some(spec), Some(_)) = (spec, &trashed) {
            self.store.journal().note(&Entry::of_container(&spec, "destroy"));
        }
        fs::remove_dir_all(&self.run_folder(id))?;
        trashed.map_or(Ok(()), |path| super::gc::delete(&path))
    }

    /// Waits for the lock that every command takes before it changes this container. Held for a short time.
    ///
    /// Errors: `NotFound` when it is (or was meanwhile) removed.
    pub fn lock(&self, id: &ContainerId) -> Result<Lock> {
        if !self.exists(id) {
            return Err(Error::not_found(Kind::Container, id.as_str()));
        }
        let lock = Lock::exclusive(&self.run_folder(id).join("lock"))?;
        if self.exists(id) {
            return Ok(lock);
        }
        drop(lock);
        fs::remove_dir_all(&self.run_folder(id))?;
        Err(Error::not_found(Kind::Container, id.as_str()))
    }

    /// Takes the lock that a supervisor holds for life; `None` when one lives.
    pub fn supervisor_lock(&self, id: &ContainerId) -> Result<Option<Lock>> {
        Ok(Lock::try_exclusive(&self.supervisor_lock_path(id))?)
    }

    /// Whether a supervisor lives. Does not disturb one that is about to take the lock.
    pub fn supervisor_alive(&self, id: &ContainerId) -> Result<bool> {
        Ok(Lock::is_held(&self.supervisor_lock_path(id))?)
    }

    /// The file of the supervisor's lock, for one that comes through exec ([`Lock::from_fd`]).
    pub fn supervisor_lock_path(&self, id: &ContainerId) -> PathBuf {
        self.run_folder(id).join("supervisor.lock")
    }

    /// What the last command wished: `Stopped` where there is a file of that name, which is empty, so that a
    /// container can be stopped on a full disk. Without it: `Running`.
    pub fn wish(&self, id: &ContainerId) -> Result<Wish> {
        let record = fs::read_optional(&self.folder(id).join("wish"))?;
        Ok(if record.is_some() { Wish::Stopped } else { Wish::Running })
    }

    /// Records what a command wishes; durable for `Stopped`, and without any cost when nothing changes.
    pub fn set_wish(&self, id: &ContainerId, wish: Wish) -> Result<()> {
        if self.wish(id)? == wish {
            return Ok(());
        }
        let path = self.folder(id).join("wish");
        match wish {
            Wish::Running => Ok(fs::remove_file(&path)?),
            Wish::Stopped => Ok(fs::write_atomic(&path, b"", Durability::Durable)?),
        }
    }

    /// Whether there is such a container.
    pub fn exists(&self, id: &ContainerId) -> bool {
        self.folder(id).is_dir()
    }

    /// Where all containers lie, each in a folder of its own that is renamed into place and out of it.
    pub fn all_folder(&self) -> PathBuf {
        self.store.root("containers")
    }

    /// Everything of a container that survives a reboot.
    pub fn folder(&self, id: &ContainerId) -> PathBuf {
        self.store.root("containers").join(id.as_str())
    }

    /// The writable layer.
    pub fn upper_folder(&self, id: &ContainerId) -> PathBuf {
        self.folder(id).join("upper")
    }

    /// overlayfs' work folder, beside the upper one.
    pub fn work_folder(&self, id: &ContainerId) -> PathBuf {
        self.folder(id).join("work")
    }

    /// hosts, hostname and resolv.conf.
    pub fn etc_folder(&self, id: &ContainerId) -> PathBuf {
        self.folder(id).join("etc")
    }

    /// Other files made for the container.
    pub fn files_folder(&self, id: &ContainerId) -> PathBuf {
        self.folder(id).join("files")
    }

    /// Its log files.
    pub fn logs_folder(&self, id: &ContainerId) -> PathBuf {
        self.folder(id).join("logs")
    }

    /// The file of its state, to watch for changes: it is replaced, so watch the folder for `state.json`.
    pub fn state_path(&self, id: &ContainerId) -> PathBuf {
        self.folder(id).join("state.json")
    }

    /// Locks, sockets and FIFOs of this boot; short enough for the path of a unix socket. May be missing.
    pub fn run_folder(&self, id: &ContainerId) -> PathBuf {
        Self::run_folder_below(self.store.paths(), id)
    }

    /// The same without an open store.
    pub fn run_folder_below(paths: &Paths, id: &ContainerId) -> PathBuf {
        paths.run.join("c").join(&id.as_str()[..24])
    }

    fn publish(&self, spec: &ContainerSpec, building: &std::path::Path) -> Result<()> {
        let folder = self.folder(&spec.id);
        let names_folder = self.store.names_folder("containers");
        let containers = self.store.root("containers");
        {
            let _layers_stay = Lock::shared(&self.store.root("lock/gc"))?;
            for layer in layers_of(spec) {
                if !self.store.layers().exists(layer) {
                    return Err(Error::not_found(Kind::Layer, layer.as_str()));
                }
            }
            let _names = self.store.lock_names()?;
            let holds = |holder: &str| self.holds(holder, &spec.name);
            names::take(Kind::Container, &names_folder, &spec.name, spec.id.as_str(), holds)?;
            std::fs::rename(building, &folder).context("create", &folder)?;
        }
        let run = self.run_folder(&spec.id);
        fs::create_dir_all(&run)?;
        if !spec.auto_remove {
            let config = folder.join("config.json");
            std::fs::File::open(&config).context("open", &config)?.sync_all().context("sync", &config)?;
            for path in [&folder, &containers, &names_folder] {
                fs::sync_folder(path)?;
            }
        }
        Ok(())
    }

    /// Gives up the names of containers that are gone. Not waited for: who holds the lock of names may be the caller,
    /// and who takes a name of a container that is gone gets it.
    pub(super) fn sweep_names(&self) -> Result<()> {
        let folder = self.store.names_folder("containers");
        let Some(_names) = Lock::try_exclusive(&self.store.root("lock/names"))? else { return Ok(()) };
        for name in super::entries(&folder)? {
            if let Some(id) = names::lookup(&folder, &name)?
                && !self.holds(&id, &name)
            {
                names::release(&folder, &name, &id)?;
            }
        }
        Ok(())
    }

    /// Removes the run folders of containers that are gone.
    pub(super) fn sweep_run_folders(&self) -> Result<()> {
        let all = self.store.paths().run.join("c");
        // Listed before the containers: who comes into being meanwhile is not among them.
        let folders = super::entries(&all)?;
        let ids = self.ids()?;
        for folder in folders {
            if !ids.iter().any(|id| id.as_str().starts_with(&folder)) {
                fs::remove_dir_all(&all.join(folder))?;
            }
        }
        Ok(())
    }

    /// Whether the container `id` exists and goes by `name`: a rename that was killed half-way leaves a name that
    /// nobody goes by. The caller holds `lock/names`.
    fn holds(&self, id: &str, name: &str) -> bool {
        let Ok(id) = id.parse::<ContainerId>() else { return false };
        match self.spec(&id) {
            Ok(spec) => spec.name == name,
            // In doubt it does.
            Err(_) => self.exists(&id),
        }
    }

    /// Whether the power went before the spec of a new container reached the disk.
    pub(super) fn is_half_made(&self, id: &ContainerId) -> bool {
        std::fs::metadata(self.folder(id).join("config.json")).map_or(true, |metadata| metadata.len() == 0)
    }
}

/// All layers that a container needs: its image's and those of its image mounts.
pub(super) fn layers_of(spec: &ContainerSpec) -> impl Iterator<Item = &crate::base::id::Digest> {
    let mounted = spec.mounts.iter().flat_map(|mount| match &mount.source {
        MountSource::Image { layers, .. } => layers.as_slice(),
        _ => &[],
    });
    spec.layers.iter().chain(mounted)
}

fn new_state(boot_id: &str) -> ContainerState {
    ContainerState {
        status: Status::Created,
        process: None,
        exit_code: 0,
        oom_killed: false,
        error: None,
        started_at: None,
        finished_at: None,
        restart_count: 0,
        health: None,
        ports: Vec::new(),
        addresses: Vec::new(),
        boot_id: boot_id.to_owned(),
    }
}

/// The state of a container whose record was lost with the power.
fn lost_state() -> ContainerState {
    ContainerState { status: Status::Running, ..new_state("") }
}

fn as_of_this_boot(mut state: ContainerState, boot_id: &str) -> ContainerState {
    if state.boot_id == boot_id {
        return state;
    }
    if matches!(state.status, Status::Running | Status::Paused | Status::Restarting) {
        state.status = Status::Exited;
        state.exit_code = EXIT_CODE_UNKNOWN;
        state.process = None;
        state.health = None;
    }
    state.ports.clear();
    state.addresses.clear();
    state
}

pub(super) fn set_mode(path: &std::path::Path, mode: u32) -> fs::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context("set the mode of", path)
}

//! The container that a RUN step runs in: Docker's defaults, the step's process, nothing that outlives it.

use std::collections::BTreeMap;

use super::interpret::RunAction;
use super::request::BuildRequest;
use crate::base::id::ContainerId;
use crate::model::container::{ContainerSpec, Logging, NetworkMode, Process, Resources, RestartPolicy, Security};

/// Size of /dev/shm, as Docker's.
const SHM_BYTES: u64 = 64 << 20;

/// The spec of a step's container.
pub fn container_spec(
    request: &BuildRequest,
    action: &RunAction,
    env: Vec<String>,
    network: NetworkMode,
) -> ContainerSpec {
    let id = ContainerId::random();
    ContainerSpec {
        name: format!("build-{}", id.short()),
        created: jiff::Timestamp::now(),
        image: String::new(),
        image_id: None,
        layers: Vec::new(),
        labels: BTreeMap::new(),
        process: Process {
            args: action.args.clone(),
            env,
            cwd: action.cwd.clone(),
            user: action.user.clone(),
            additional_groups: Vec::new(),
            terminal: false,
            stdin_open: false,
        },
        hostname: "buildkitsandbox".into(),
        domainname: None,
        read_only: false,
        mounts: Vec::new(),
        files: Vec::new(),
        shm_size_bytes: request.shm_size_bytes.unwrap_or(SHM_BYTES),
        network,
        ports: Vec::new(),
        exposed_ports: Vec::new(),
        extra_hosts: request.extra_hosts.clone(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        security: Security { privileged: action.insecure, ..Security::default() },
        resources: Resources::default(),
        sysctls: BTreeMap::new(),
        ulimits: request.ulimits.clone(),
        init: false,
        stop_signal: libc::SIGTERM,
        stop_timeout_ms: 0,
        restart: RestartPolicy::No,
        healthcheck: None,
        logging: Logging { enabled: false, ..Logging::default() },
        auto_remove: true,
        entrypoint_length: 0,
        uid_maps: Vec::new(),
        gid_maps: Vec::new(),
        id,
    }
}

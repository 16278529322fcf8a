//! `down`, `stop`, `start`, `restart`, `kill` and `rm` of a project: plan and carry out.

use std::time::Duration;

use super::execute::Execution;
use super::{Engine, Result};
use crate::graph::plan::Plan;
use crate::graph::teardown;

impl Engine {
    /// Takes the project down. `name` is enough where there is no file.
    pub fn down(&self, name: &str, wish: &teardown::Down, execution: &Execution<'_>) -> Result<Plan> {
        let observed = self.observe(name, None)?;
        let plan = teardown::down(execution.project, &observed, wish);
        self.execute(&plan, execution)?;
        Ok(plan)
    }

    /// Stops services, dependents first.
    pub fn stop_services(
        &self,
        name: &str,
        services: &[String],
        timeout: Option<Duration>,
        execution: &Execution<'_>,
    ) -> Result<Plan> {
        let plan = teardown::stop(execution.project, &self.observe(name, None)?, services, timeout)?;
        self.execute(&plan, execution)?;
        Ok(plan)
    }

    /// Sends a signal to the running containers of services.
    pub fn kill_services(
        &self,
        name: &str,
        services: &[String],
        signal: &str,
        execution: &Execution<'_>,
    ) -> Result<Plan> {
        super::signal::parse(signal)?;
        let plan = teardown::kill(execution.project, &self.observe(name, None)?, services, signal)?;
        self.execute(&plan, execution)?;
        Ok(plan)
    }

    /// Removes stopped containers of services, with `stop` also running ones.
    pub fn remove_services(
        &self,
        name: &str,
        services: &[String],
        stop: bool,
        volumes: bool,
        execution: &Execution<'_>,
    ) -> Result<Plan> {
        let plan = teardown::remove(execution.project, &self.observe(name, None)?, services, stop, volumes)?;
        self.execute(&plan, execution)?;
        Ok(plan)
    }

    /// Starts existing containers of services in dependency order.
    pub fn start_services(&self, services: &[String], execution: &Execution<'_>) -> Result<Plan> {
        let Some(project) = execution.project else { return Ok(Plan::default()) };
        let plan = teardown::start(project, &self.observe(&project.name, None)?, services)?;
        self.execute(&plan, execution)?;
        Ok(plan)
    }

    /// Restarts services, and the dependents that asked to follow.
    pub fn restart_services(
        &self,
        services: &[String],
        no_deps: bool,
        timeout: Option<Duration>,
        execution: &Execution<'_>,
    ) -> Result<Plan> {
        let Some(project) = execution.project else { return Ok(Plan::default()) };
        let plan = teardown::restart(project, &self.observe(&project.name, None)?, services, no_deps, timeout)?;
        self.execute(&plan, execution)?;
        Ok(plan)
    }
}

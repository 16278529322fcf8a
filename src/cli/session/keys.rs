//! What the keys of `up` on a terminal do.

use std::thread::Scope;

use super::{Attached, Bell, Course};
use crate::cli::Failure;
use crate::cli::members::Member;
use crate::cli::menu::{HELP, Key};
use crate::cli::show::container;
use crate::cli::show::table::Table;
use crate::watch::{self, Watch};

impl Attached<'_> {
    /// Does what the keys that were pressed say.
    pub(super) fn take_keys<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        course: &mut Course,
        end_of_watch: &'s watch::Stop,
        bell: Bell<'s>,
    ) -> Result<(), Failure> {
        let keys = course.menu.as_mut().map(|menu| menu.keys()).unwrap_or_default();
        for key in keys {
            match key {
                Key::Detach => course.detached = true,
                Key::Watch if course.watching => end_of_watch.set(),
                Key::Watch => self.begin_watch(scope, course, end_of_watch, bell),
                Key::View => self.view()?,
                Key::Config => self.context.say(self.loaded.to_yaml().trim_end()),
                Key::Help => self.context.say(HELP.trim_end()),
                Key::Enter => self.context.say(""),
            }
        }
        Ok(())
    }

    fn begin_watch<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        course: &mut Course,
        end_of_watch: &'s watch::Stop,
        bell: Bell<'s>,
    ) {
        match Watch::new(self.engine, self.loaded, self.watch_options.clone()) {
            Ok(watch) => {
                course.watching = true;
                end_of_watch.reset();
                if let Some(menu) = &course.menu {
                    menu.set_watching(true);
                }
                scope.spawn(move || self.keep(watch, end_of_watch, bell));
            }
            Err(error) => self.context.show_error(&error),
        }
    }

    /// The project's containers and how they fare.
    fn view(&self) -> Result<(), Failure> {
        let now = jiff::Timestamp::now();
        let mut table = Table::new(["NAME", "SERVICE", "STATUS", "PORTS"]);
        for (spec, state) in self.engine.store().containers().list()? {
            let member = Member { spec, state };
            if member.project() == Some(&self.project.name) && !member.is_one_off() {
                let service = member.service().unwrap_or_default().to_owned();
                let status = container::status(&member.state, now);
                table.row(vec![
                    member.spec.name.clone(),
                    service,
                    status,
                    container::ports(&member.spec, &member.state),
                ]);
            }
        }
        let mut text = Vec::new();
        table.write(&mut text)?;
        self.context.say(String::from_utf8_lossy(&text).trim_end());
        Ok(())
    }
}

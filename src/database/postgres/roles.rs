//! The role of a backend on PostgreSQL: made, given the tables of its database, and dropped.

use super::{PostgresSession, TABLES, quote_identifier};
use crate::database::{BackendRole, DatabaseError};
use crate::failpoint;
use crate::model::Secret;

impl PostgresSession {
    /// Makes the role of a backend, and lets it into the database.
    pub(super) async fn grant_role(&self, role: &BackendRole, password: &Secret) -> Result<(), DatabaseError> {
        let name = quote_identifier(&role.name);
        let remedy = format!("ALTER ROLE {} CREATEROLE;", quote_identifier(&self.user));
        // What the server gets is a verifier, so that no log of statements has the password.
        let verifier = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
        let verb = if self.role_exists(role).await? { "ALTER" } else { "CREATE" };
        let sql = format!("{verb} ROLE {name} LOGIN PASSWORD '{verifier}'");
        self.execute(&format!("make the role `{}`", role.name), &sql, Some(remedy)).await?;
        failpoint::hit("database.role_made");
        let database = quote_identifier(&self.database);
        // Other roles could otherwise still enter and make temporary tables.
        let sql = format!(
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC;
             GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {name};
             GRANT USAGE, CREATE ON SCHEMA public TO {name}"
        );
        let remedy = format!("ALTER DATABASE {database} OWNER TO {};", quote_identifier(&self.user));
        let what = format!("give away privileges on the database `{}`", self.database);
        self.execute(&what, &sql, Some(remedy)).await?;
        self.reassign_tables(&role.name).await
    }

    async fn role_exists(&self, role: &BackendRole) -> Result<bool, DatabaseError> {
        let row = self.client.query_one("SELECT count(*)::text FROM pg_roles WHERE rolname = $1", &[&role.name]).await;
        let count: String =
            row.and_then(|row| row.try_get(0)).map_err(|error| self.query_error("say which roles there are", None, error))?;
        Ok(count != "0")
    }

    /// Drops a role with all its privileges here. What it owned has to have another owner by then.
    pub(super) async fn drop_role_here(&self, role: &BackendRole) -> Result<(), DatabaseError> {
        if !self.role_exists(role).await? {
            return Ok(());
        }
        self.join_roles(std::iter::once(role.name.as_str())).await?;
        let name = quote_identifier(&role.name);
        // Without the first of the two the role could not be dropped.
        let sql = format!("DROP OWNED BY {name}; DROP ROLE {name}");
        self.execute(&format!("drop the role `{}`", role.name), &sql, None).await?;
        failpoint::hit("database.role_dropped");
        Ok(())
    }

    /// Gives all tables to one owner: only an owner may change them.
    pub(super) async fn reassign_tables(&self, owner: &str) -> Result<(), DatabaseError> {
        let what = format!("give the tables to `{owner}`");
        let sql = format!(
            "SELECT format('%I.%I', n.nspname, c.relname), pg_get_userbyid(c.relowner)::text {TABLES}
             AND c.relkind IN ('r', 'p') AND pg_get_userbyid(c.relowner) <> $1"
        );
        let others = self.client.query(&sql, &[&owner]).await.map_err(|error| self.query_error(&what, None, error))?;
        let mut statements = String::new();
        let mut known = std::collections::BTreeSet::from([owner.to_owned()]);
        for row in &others {
            let (table, from): (String, String) = match (row.try_get(0), row.try_get(1)) {
                (Ok(table), Ok(from)) => (table, from),
                (Err(error), _) | (_, Err(error)) => return Err(self.query_error(&what, None, error)),
            };
            known.insert(from);
            statements.push_str(&format!("ALTER TABLE {table} OWNER TO {};", quote_identifier(owner)));
        }
        if statements.is_empty() {
            return Ok(());
        }
        self.join_roles(known.iter().map(String::as_str)).await?;
        self.execute(&what, &statements, None).await
    }

    /// Becomes a member of roles, without which their tables cannot be given away. A superuser need not.
    async fn join_roles(&self, roles: impl Iterator<Item = &str> + Send) -> Result<(), DatabaseError> {
        let sql = "SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user";
        if self.query_text("say who the user is", sql).await? == "true" {
            return Ok(());
        }
        for role in roles.filter(|role| *role != self.user) {
            let sql = format!("GRANT {} TO CURRENT_USER", quote_identifier(role));
            let remedy = format!("GRANT {} TO {};", quote_identifier(role), quote_identifier(&self.user));
            self.execute(&format!("act for `{role}`"), &sql, Some(remedy)).await?;
        }
        Ok(())
    }
}

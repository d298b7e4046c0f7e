// Better Auth as an application would run it, on the database of DATABASE_URL. Started by
// tests/support/better_auth.py.
//
//     node better-auth.mjs        serve until stdin closes; the first line printed is the address
//     node better-auth.mjs plan   print what Better Auth would change in the schema, as JSON
import { createServer } from "node:http";

import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { bearer } from "better-auth/plugins/bearer";
import { jwt } from "better-auth/plugins/jwt";
import pg from "pg";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const warnings = [];
const options = {
  database: pool,
  // Tests read the token of a reset link from the database.
  emailAndPassword: { enabled: true, sendResetPassword: async () => {} },
  logger: {
    level: "warn",
    log(level, message, ...rest) {
      warnings.push(message);
      console.error(`better-auth ${level}: ${message}`, ...rest);  // stdout is the caller's
    },
  },
  plugins: [bearer(), jwt()],
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  user: { deleteUser: { enabled: true } },
};

async function plan() {
  const { toBeCreated, toBeAdded, toBeAddedIndexes, unsafeChanges, schemaProblems } =
    await getMigrations(options, { throwOnUnsafe: false });
  const columns = (tables) => tables.map(({ table, fields }) => [table, Object.keys(fields)]);
  const found = {
    create: columns(toBeCreated),
    add: columns(toBeAdded),
    indexes: toBeAddedIndexes.map(({ name }) => name),
    // Not part of what it would run: what it only complains of.
    problems: [...unsafeChanges, ...schemaProblems, ...warnings],
  };
  console.log(JSON.stringify(found));
  await pool.end();
}

function serve() {
  const server = createServer();
  const stop = () => process.exit(0);  // no connection is worth waiting for
  process.on("SIGTERM", stop);
  process.stdin.on("end", stop).resume();
  server.listen(0, "127.0.0.1", () => {
    const baseURL = `http://127.0.0.1:${server.address().port}`;
    const handle = toNodeHandler(betterAuth({ ...options, baseURL }));
    server.on("request", (request, response) => {
      // A schema that it refuses is an error here; left alone, it would end the process.
      handle(request, response).catch((error) => {
        console.error(error);
        response.writeHead(500).end(String(error));
      });
    });
    console.log(baseURL);
  });
}

if (process.argv[2] === "plan") await plan();
else serve();

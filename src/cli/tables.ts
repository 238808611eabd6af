/** `millrace tables list | get | entries`: what is committed, by keys in their text form. */
import { Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import * as Admin from "../Admin.ts"
import { withEngine } from "./engine.ts"
import { show, toJson } from "./output.ts"
import { limit, list, listPages } from "./pages.ts"

const tableName = Argument.String("table").pipe(Argument.withDescription("The name of a table"))

const partition = Flag.Int("partition").pipe(Flag.withDescription("Only in this partition"), Flag.optional)

const valueOf = ({ payload }: Admin.Row): string => payload.problem ?? toJson(payload.value)

const listing = Command.make(
  "list",
  {},
  Effect.fn(function* () {
    const all = yield* withEngine()(Admin.tables)
    yield* list(all, ["table", "processor", "partitions"], (one) => [one.name, one.processor, one.partitions])
  })
).pipe(Command.withDescription("The tables of an engine"))

const get = Command.make(
  "get",
  { table: tableName, key: Argument.String("key").pipe(Argument.withDescription("The key, as text")), partition },
  Effect.fn(function* ({ key, partition, table }) {
    const row = yield* withEngine()(Admin.row(table, key, { partition: Option.getOrUndefined(partition) }))
    yield* show(row, () => [valueOf(row)])
  })
).pipe(Command.withDescription("The value of a key"))

const entries = Command.make(
  "entries",
  { table: tableName, partition, limit },
  Effect.fn(function* ({ limit, partition, table }) {
    const of = Option.getOrUndefined(partition)
    yield* withEngine()(
      listPages(
        limit,
        (cursor) => Admin.rows(table, { cursor, partition: of }),
        ["partition", "key", "value"],
        (row) => [row.partition, row.key, valueOf(row)]
      )
    )
  })
).pipe(Command.withDescription("Rows of a table, partition by partition"))

export const tables = Command.make("tables").pipe(
  Command.withDescription("Tables: list them, get a row, all entries"),
  Command.withSubcommands([listing, get, entries])
)

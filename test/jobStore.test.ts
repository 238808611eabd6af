/** Every law of the job store on memory, a file and Redis (in one shard, and in three). */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Layer } from "effect"
import * as Sqlite from "../src/embedded/client.ts"
import * as Embedded from "../src/embedded/jobStore.ts"
import * as Laws from "../src/laws/Laws.ts"
import * as OnRedis from "../src/redis/jobStore.ts"
import { layerRedis } from "./support/redis.ts"

const layerFile = Layer.unwrap(
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-jobs-"))),
      (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
    ),
    (directory) => Sqlite.layerFile({ file: join(directory, "jobs.db") })
  )
)

Laws.jobStore("memory", Layer.provide(Embedded.layer, Sqlite.layerMemory), { live: false })
Laws.jobStore("file", Layer.provide(Embedded.layer, layerFile))
Laws.jobStore("Redis", Layer.provide(OnRedis.layer, layerRedis()))
Laws.jobStore("Redis, 3 shards", Layer.provide(OnRedis.layer, layerRedis({ shards: 3 })))

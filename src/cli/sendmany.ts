/**
 * `millrace sendmany <module> <topic> [file]`: stores the lines of a JSONL file or of standard input, as a stream in
 * bounded memory. At a line that is wrong it ends: all before it are stored, and the line is named.
 */
import { Effect, FileSystem, Option, Result, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import * as Topic from "../Topic.ts"
import { dryRun } from "./changing.ts"
import { withEngine } from "./engine.ts"
import { Failed } from "./failures.ts"
import { load, module, pickTopic } from "./modules.ts"
import { show } from "./output.ts"
import { withProgress } from "./progress.ts"
import { checkPartition, topicName } from "./send.ts"
import * as Values from "./values.ts"

/** Standard input and what is no file have no size that is known. */
const sizeOf = (file: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    if (file === "-") return 0
    return yield* Effect.orElseSucceed(
      Effect.map(fs.stat(file), ({ size }) => Number(size)),
      () => 0
    )
  })

export const sendmany = Command.make(
  "sendmany",
  {
    module,
    topic: topicName,
    file: Argument.String("file").pipe(
      Argument.withDescription("One JSON value to a line; - or nothing: standard input"),
      Argument.withDefault("-")
    ),
    key: Values.key,
    partition: Values.partition,
    headers: Values.headers,
    fromLine: Flag.Int("from-line").pipe(
      Flag.withDescription("Begin at this line: to go on after one that was wrong"),
      Flag.withDefault(1)
    ),
    dryRun
  },
  Effect.fn(function* ({ dryRun, file, fromLine, headers, key, module, partition, topic: name }) {
    const found = yield* load(module)
    const topic = yield* pickTopic(found, name)
    yield* checkPartition(topic, partition)
    const decode = Values.decoder(topic.schema)
    const options = {
      ...(Option.isSome(key) ? { key: key.value } : {}),
      ...(Option.isSome(partition) ? { partition: partition.value } : {}),
      ...(Object.keys(headers).length > 0 ? { headers } : {})
    }
    const [sent, wrong] = yield* withProgress(dryRun ? "checked" : "sent", yield* sizeOf(file), (progress) =>
      Effect.gen(function* () {
        let line = 0
        let wrong: string | undefined
        const values = Values.linesOf(file, (bytes) => {
          progress.part += bytes
        }).pipe(
          Stream.mapArray((texts) => {
            const good: Array<unknown> = []
            for (const text of texts) {
              line++
              if (wrong !== undefined || line < fromLine || text.trim() === "") continue
              const decoded = decode(text)
              if (Result.isSuccess(decoded)) good.push(decoded.success)
              else wrong = `line ${line}: ${decoded.failure}`
            }
            progress.done += good.length
            // An array of a stream is never empty, so the end is told beside the values.
            return [{ good, isLast: wrong !== undefined }] as const
          }),
          Stream.takeUntil(({ isLast }) => isLast),
          Stream.flatMap(({ good }) => Stream.fromIterable(good))
        )
        const storing = dryRun ? Stream.runCount(values) : withEngine(found)(Topic.publishAll(topic, values, options))
        return [yield* storing, wrong] as const
      })
    )
    yield* show({ topic: name, [dryRun ? "checked" : "sent"]: sent }, () => [
      dryRun ? `${sent} lines fit topic ${name}; nothing was sent` : `${sent} events sent to ${name}`
    ])
    if (wrong === undefined) return
    const before = dryRun
      ? "the lines before it fit"
      : "all lines before it are sent; mend it, and go on with --from-line"
    return yield* new Failed({ message: `${wrong} (${before})` })
  })
).pipe(
  Command.withDescription("Store the lines of a JSONL file or of standard input"),
  Command.withExamples([
    { command: "millrace sendmany src/app.ts orders orders.jsonl", description: "A file of any size" },
    { command: "zcat orders.jsonl.gz | millrace sendmany src/app.ts orders", description: "A pipe" }
  ])
)

#!/usr/bin/env node
/**
 * The program `millrace`. Signals interrupt it, and what it does then it finishes; the exit code is set, and nothing is
 * waited for that is left open by a module of the user's.
 */
import { readFileSync } from "node:fs"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Exit } from "effect"
import { exitCodes } from "./failures.ts"
import { Interruption } from "./interruption.ts"
import { run } from "./program.ts"

// Beside `src` and beside `dist`.
const manifest: { readonly version: string } = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8")
)

const interruption = { isDone: false }

NodeRuntime.runMain(
  run(process.argv.slice(2), manifest.version).pipe(
    Effect.provideService(Interruption, interruption),
    Effect.provide(NodeServices.layer)
  ),
  {
    disableErrorReporting: true,
    teardown: (exit, onExit) =>
      onExit(Exit.isSuccess(exit) ? Number(exit.value) : interruption.isDone ? exitCodes.done : exitCodes.interrupted)
  }
)

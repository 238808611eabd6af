/** A hook on the web server is told of every request: what was asked, where it came to, what it was answered. */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Layer, Redacted } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import * as Engine from "../../src/Engine.ts"
import * as Sensor from "../../src/Sensor.ts"
import { Web } from "../../src/web/index.ts"
import { ask, bearer, firstOf, servedPort, token } from "../support/web.ts"

interface Step {
  readonly asked: Sensor.WebRequest
  answer: Sensor.WebAnswer | undefined
}

it.live("requests to routes of ours and of others, those that are refused and those that find nothing", () => {
  const steps: Array<Step> = []
  const sensor = Sensor.layer({
    web: (asked) => {
      const step: Step = { asked, answer: undefined }
      steps.push(step)
      return (exit) => {
        assert.isUndefined(step.answer, "ended twice")
        step.answer = Exit.getSuccess(exit).pipe((value) => (value._tag === "Some" ? value.value : undefined))
      }
    }
  })
  const routes = Layer.merge(
    HttpRouter.add("POST", "/hook/:id", HttpServerResponse.text("done", { status: 202 })),
    HttpRouter.add("GET", "/dies", Effect.die(new Error("a route")))
  )
  return Effect.gen(function* () {
    const port = yield* servedPort
    const get = ask(port)
    yield* get("/health/live?x=1")
    yield* get("/api/topics/none")
    yield* get("/hook/7", { method: "POST", headers: bearer })
    yield* get("/hook/7", { method: "POST" })
    yield* get("/dies")
    yield* get("/nowhere")
    yield* firstOf(port, "/api/events")
    assert.deepStrictEqual(
      steps.map(({ answer, asked: { method, path } }) => [method, path, answer?.status, answer?.route]),
      [
        ["GET", "/health/live", 200, "/health/live"],
        ["GET", "/api/topics/none", 404, "/api/topics/:name"],
        ["POST", "/hook/7", 202, "/hook/:id"],
        ["POST", "/hook/7", 401, undefined],
        ["GET", "/dies", 500, "/dies"],
        ["GET", "/nowhere", 404, undefined],
        ["GET", "/api/events", 200, "/api/events"]
      ]
    )
    for (const { answer } of steps) assert.isAtLeast(answer!.millis, 0)
  }).pipe(
    Effect.provide(
      Layer.provide(Web.layer({ port: 0, token: Redacted.make(token), routes }), [Engine.layerMemory, sensor])
    )
  )
})

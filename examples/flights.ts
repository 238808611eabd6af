/**
 * Twenty thousand real flights (the `vega-datasets` package): published once, handled by four processors, counted
 * exactly once, in tables and hourly windows; and an agent that answers questions about an airport. `npm start` runs it on an embedded engine of its own. To share the work, start it several times with
 *
 *     MILLRACE_URL=redis://localhost:6379 FLIGHTS_PACE="2 millis" npm start
 *
 * and kill any of them: the others take over its airports, and each that is left prints the same, complete table. Once
 * all is done, a further run prints the table at once; another `MILLRACE_NAMESPACE` begins anew.
 */
import { readFile } from "node:fs/promises"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Clock, Config, Console, DateTime, Duration, Effect, FileSystem, Layer, Option, Schema, Stream } from "effect"
import { Agent, Engine, Event, Join, Processor, Retention, Table, Topic, Window, Worker } from "../src/index.ts"

// ------------------------------------------------------------------------------------------------- topics and tables

const Flight = Schema.Struct({
  date: Schema.String,
  /** Minutes; below zero for a flight that was early. */
  delay: Schema.Finite,
  distance: Schema.Finite,
  origin: Schema.String,
  destination: Schema.String
})

// All flights of an airport are in one of 16 partitions, in order, and one process at a time works on them.
const flights = Topic.make("flights", {
  schema: Flight,
  partitionBy: "origin",
  partitions: 16,
  // The event time: that of departure.
  timestamp: (flight) => new Date(`${flight.date} UTC`)
})

// The same events under another name, kept for ever.
const overdue = flights.pipe(Topic.variant("overdue", { retention: Retention.forever }))

// Every airport of the country, from another file: one row each, for whoever joins it.
const Field = Schema.Struct({ code: Schema.String, city: Schema.String, state: Schema.String })
const fields = Topic.make("fields", { schema: Field, partitionBy: "code", partitions: 16 })
const cities = Table.make("cities", { key: Schema.String, value: Schema.String, initial: () => "?", partitions: 16 })

// How many of an airport's flights were overdue, and in which city it lies.
const trouble = Table.make("trouble", {
  key: Schema.String,
  value: Schema.Struct({ city: Schema.String, flights: Schema.Finite }),
  initial: () => ({ city: "", flights: 0 })
})

// What a processor knows, by airport: stored in the engine, so that it outlives any process.
const Airport = Schema.Struct({ flights: Schema.Finite, delay: Schema.Finite, late: Schema.Finite })
const airports = Table.make("airports", {
  key: Schema.String,
  value: Airport,
  initial: () => ({ flights: 0, delay: 0, late: 0 })
})
const miles = Table.make("miles", { key: Schema.String, value: Schema.Finite, initial: () => 0 })

// By route, kept where the flights of its origin are handled.
const Delays = Schema.Struct({ flights: Schema.Finite, delay: Schema.Finite })
const routes = Table.make("routes", {
  key: Schema.String,
  value: Delays,
  initial: () => ({ flights: 0, delay: 0 }),
  partitionBy: (route) => route.split("-")[0]!
})

// By airport and hour. These flights are of long ago and come all at once: silence between them says nothing.
const hours = Table.windowed("hours", {
  key: Schema.String,
  value: Delays,
  initial: () => ({ flights: 0, delay: 0 }),
  window: Window.tumbling("1 hour", { idle: Duration.infinity })
})

// What each hour came to, once it was over.
const closed = Topic.make("closed", {
  schema: Schema.Struct({ origin: Schema.String, hour: Schema.String, ...Delays.fields }),
  partitionBy: "origin",
  partitions: 16,
  retention: Retention.forever
})

// What the agent is asked, and what it answers.
class UnknownAirport extends Schema.TaggedError<UnknownAirport>()("UnknownAirport", { code: Schema.String }) {}
const airport = Agent.make("airport", { request: Schema.String, reply: Airport, error: UnknownAirport, partitions: 4 })

// -------------------------------------------------------------------------------------------------------- processors

// One flight at a time. The new row and "this flight is done" are one commit: a crash never counts a flight twice.
const punctuality = Processor.make("punctuality", { topic: flights, tables: [airports, routes] }, (flight) =>
  Effect.andThen(
    Table.update(airports, flight.origin, (airport) => ({
      flights: airport.flights + 1,
      delay: airport.delay + flight.delay,
      late: airport.late + (flight.delay >= 15 ? 1 : 0)
    })),
    Table.update(routes, `${flight.origin}-${flight.destination}`, (route) => ({
      flights: route.flights + 1,
      delay: route.delay + flight.delay
    }))
  )
)

// An hour is closed when the flights of its partition have passed it: told once, with its final value.
const hourly = Processor.make(
  "hourly",
  {
    topic: flights,
    tables: [
      Table.onClose(hours, ({ key, start, value }) =>
        Topic.emit(closed, { origin: key, hour: DateTime.formatIso(start).slice(0, 16), ...value })
      )
    ]
  },
  (flight) =>
    Table.update(hours, flight.origin, ({ delay, flights }) => ({ flights: flights + 1, delay: delay + flight.delay }))
)

// Up to 200 flights, or those of 50 ms: one unit of work, here with one write for each airport instead of each flight.
const distances = Processor.batch(
  "distances",
  { topic: flights, tables: [miles], size: 200, within: "50 millis" },
  (batch) =>
    Effect.forEach(
      Map.groupBy(batch, (flight) => flight.origin),
      ([origin, departures]) =>
        Table.update(miles, origin, (sum) => departures.reduce((total, flight) => total + flight.distance, sum))
    )
)

// Any stream: what it emits or drops is done. `Topic.emit` belongs to the unit of work, so it happens exactly once too.
const alerts = Processor.stream("alerts", { topic: flights }, (events) =>
  events.pipe(
    Event.filter((flight) => flight.delay >= 180),
    Event.mapEffect((flight) => Topic.emit(overdue, flight))
  )
)

const gazetteer = Processor.make("gazetteer", { topic: fields, tables: [cities] }, ({ city, code, state }) =>
  Table.set(cities, code, `${city}, ${state}`)
)

// A join is read like a topic: each overdue flight with the row of its airport.
const joined = Join.table(overdue, cities)
const complaints = Processor.make(
  "complaints",
  { topic: joined, tables: [trouble] },
  ({ left: { origin }, right: city }) =>
    Table.update(trouble, origin, ({ flights }) => ({ city, flights: flights + 1 }))
)

// Whoever asks gets the reply, or fails with the handler's own error.
const answers = Agent.handler(
  airport,
  Effect.fnUntraced(function* (code) {
    const known = yield* Effect.orDie(Table.lookup(airports, code))
    return known.flights === 0 ? yield* new UnknownAirport({ code }) : known
  })
)

// ----------------------------------------------------------------------------------------------------------- program

const readFlights = Effect.promise(() =>
  readFile(new URL("../node_modules/vega-datasets/data/flights-20k.json", import.meta.url), "utf8")
).pipe(Effect.flatMap(Schema.decodeEffect(Schema.fromJsonString(Schema.Array(Flight)))))

const readFields = Effect.promise(() =>
  readFile(new URL("../node_modules/vega-datasets/data/airports.csv", import.meta.url), "utf8")
).pipe(
  Effect.map((text) =>
    text
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => (line.match(/"[^"]*"|[^,]+/g) ?? []).map((field) => field.replaceAll('"', "")))
      .map(([code = "", , city = "", state = ""]) => ({ code, city, state }))
  )
)

// Every process publishes all, and each event brings its own offset. A partition takes its events all at once, and
// refuses offsets that are not above its last one: so whoever comes first stores them, and a killed one is made up for.
const publish = <A>(topic: Topic.Topic<A, string>, all: ReadonlyArray<A>) =>
  Topic.publishAll(topic, all, { offsets: all.map((_, i) => `${i + 1}-0`) }).pipe(
    Effect.catchTag("OffsetConflict", () =>
      Console.log(`another process or an earlier run has published the ${topic.name} already`)
    )
  )

const behindOf = (processors: ReadonlyArray<string>) =>
  Effect.map(Effect.forEach(processors, Processor.lag), (lags) =>
    lags.flat().reduce((sum, { events }) => sum + events, 0)
  )

/** Show how far all processes together are, until nothing is left to do. */
const progress = Effect.fn(function* (processors: ReadonlyArray<string>, total: number) {
  let shown = -20
  while (true) {
    const behind = yield* behindOf(processors)
    const percent = Math.floor(100 - (100 * behind) / total)
    const line = `${percent} % of ${format(total)} events handled`
    if (process.stdout.isTTY) process.stdout.write(`\r${line}${behind === 0 ? "\n" : ""}`)
    else if (behind === 0 || percent >= shown + 20) yield* Console.log(line)
    if (percent >= shown + 20) shown = percent
    if (behind === 0) return
    yield* Effect.sleep("100 millis")
  }
})

const report = Effect.gen(function* () {
  const distance = new Map(yield* Stream.runCollect(Table.entries(miles)))
  const rows = yield* Stream.runCollect(Table.entries(airports))
  const busiest = rows.toSorted(([a, x], [b, y]) => y.flights - x.flights || (a < b ? -1 : 1)).slice(0, 10)
  yield* Console.log("\nairport   flights   mean delay   15 min late     miles flown")
  for (const [origin, { delay, flights, late }] of busiest) {
    const columns = [
      format(flights).padStart(9),
      `${mean({ delay, flights }).toFixed(1)} min`.padStart(13),
      `${((100 * late) / flights).toFixed(1)} %`.padStart(14),
      format(distance.get(origin) ?? 0).padStart(16)
    ]
    yield* Console.log(origin.padEnd(7) + columns.join(""))
  }
  const sum = rows.reduce((sum, [, airport]) => sum + airport.flights, 0)
  const emitted = yield* Stream.runCount(Topic.stream(overdue, { until: "now" }))
  yield* Console.log(`\n${format(sum)} flights from ${rows.length} airports; ${emitted} were three hours late or more`)

  const worst = <A extends typeof Delays.Type>(all: ReadonlyArray<A>, least: number) =>
    all.filter(({ flights }) => flights >= least).toSorted((a, b) => mean(b) - mean(a))[0]!
  const flown = (yield* Stream.runCollect(Table.entries(routes))).map(([name, route]) => ({ name, ...route }))
  const route = worst(flown, 20)
  yield* Console.log(
    `${format(flown.length)} routes; the latest with 20 flights or more: ${route.name}, ${minutes(route)}`
  )
  const past = (yield* Stream.runCollect(Topic.stream(closed, { until: "now" }))).map(({ value }) => value)
  const hour = worst(past, 5)
  yield* Console.log(
    `${format(past.length)} hours are over; the latest: ${hour.origin}, ${hour.hour}, ${minutes(hour)}`
  )
  const complained = yield* Stream.runCollect(Table.entries(trouble))
  const most = complained.toSorted(([a, x], [b, y]) => y.flights - x.flights || (a < b ? -1 : 1))
  const [code, { city, flights: times }] = most[0]!
  yield* Console.log(`three hours late most often: from ${code} (${city}), ${times} times`)
  const answer = yield* Agent.ask(airport, "JFK")
  const none = yield* Effect.flip(Agent.ask(airport, "nowhere"))
  yield* Console.log(`asked about JFK: ${answer.flights} flights, ${minutes(answer)}; about nowhere: ${none._tag}`)
})

const mean = ({ delay, flights }: typeof Delays.Type): number => delay / flights
const minutes = (delays: typeof Delays.Type): string => `${mean(delays).toFixed(1)} min late on average`

const format = (number: number): string => number.toLocaleString("en")

const program = Effect.gen(function* () {
  const all = yield* readFlights
  const pace = yield* Config.Duration("FLIGHTS_PACE").pipe(Config.withDefault(Duration.zero))
  const slowly = Processor.around(punctuality, (handle) => Effect.andThen(Effect.sleep(pace), handle))
  const processors = [Duration.isZero(pace) ? punctuality : slowly, distances, hourly, alerts]
  const names = processors.map((part) => part.name)
  yield* Effect.gen(function* () {
    const started = yield* Clock.currentTimeMillis
    // What is joined has to be there first.
    yield* publish(fields, yield* readFields)
    while ((yield* behindOf(["gazetteer"])) > 0) yield* Effect.sleep("20 millis")
    yield* publish(flights, all)
    // Whatever halts the worker ends the program.
    yield* Effect.raceFirst(progress([...names, "complaints"], all.length * names.length), Worker.join)
    const seconds = ((yield* Clock.currentTimeMillis) - started) / 1000
    yield* report
    const summary = yield* Worker.stop
    const handled = names.reduce((sum, name) => sum + (summary.parts[name]?.processed ?? 0), 0)
    const speed = format(Math.round(handled / seconds))
    yield* Console.log(`this process: ${format(handled)} events in ${seconds.toFixed(1)} s, ${speed} events per second`)
  }).pipe(Effect.provide(Worker.layer([...processors, gazetteer, complaints, answers])))
})

// What MILLRACE_URL names, or else an embedded engine in a file that goes when the program ends.
const engine = Layer.unwrap(
  Effect.gen(function* () {
    if (Option.isSome(yield* Config.option(Config.Redacted("MILLRACE_URL")))) return Engine.layerConfig
    const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped({ prefix: "millrace-" })
    return Engine.layerEmbedded({ file: `${directory}/flights.db` })
  })
).pipe(Layer.provide(NodeServices.layer))

program.pipe(Effect.provide(engine), NodeRuntime.runMain({ teardown: Worker.teardown }))

/**
 * The laws of the broker: what every engine keeps, as one suite. Names are unique in each law, so they may share an engine
 * with each other and with anything else; no law knows what ids look like beyond their order.
 */
import { it } from "@effect/vitest"
import type { Layer } from "effect"
import type { Broker } from "../../src/Broker.ts"
import type { TableStore } from "../../src/TableStore.ts"
import { appendLaws } from "./broker/append.ts"
import { commitLaws } from "./broker/commit.ts"
import { listingLaws } from "./broker/listing.ts"
import { modelLaws } from "./broker/model.ts"
import { outboxLaws } from "./broker/outbox.ts"
import { parkedEventLaws } from "./broker/parkedEvents.ts"
import { parkingLaws } from "./broker/parking.ts"
import { probationLaws } from "./broker/probation.ts"
import { readLaws } from "./broker/read.ts"
import { replyLaws } from "./broker/replies.ts"
import { retentionLaws } from "./broker/retention.ts"
import { startLaws } from "./broker/start.ts"
import { elapseLive, elapseVirtual } from "./broker/support.ts"
import { windowLaws } from "./broker/windows.ts"

export interface LawOptions {
  /** Real time (the default); false runs the laws on the test's clock, for engines that go by Effect's. */
  readonly live?: boolean | undefined
}

export const brokerLaws = (
  name: string,
  layer: Layer.Layer<Broker | TableStore, unknown>,
  options?: LawOptions
): void => {
  const live = options?.live ?? true
  it.layer(layer, { excludeTestServices: live, timeout: "30 seconds" })(`broker laws: ${name}`, (it) => {
    const laws = { it, elapse: live ? elapseLive : elapseVirtual }
    appendLaws(laws)
    readLaws(laws)
    commitLaws(laws)
    outboxLaws(laws)
    replyLaws(laws)
    parkingLaws(laws)
    parkedEventLaws(laws)
    probationLaws(laws)
    retentionLaws(laws)
    startLaws(laws)
    listingLaws(laws)
    windowLaws(laws)
    modelLaws(laws)
  })
}

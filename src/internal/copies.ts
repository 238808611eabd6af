/**
 * How a test makes an embedded engine go back: it takes a copy of one, and has a new one begin as that copy. Nobody
 * asks for copies unless something is put here.
 */
import { Context } from "effect"

/** The tables of an engine at one moment: how each is made, and its rows. */
export type Copy = ReadonlyArray<{
  readonly name: string
  readonly made: string
  readonly rows: ReadonlyArray<ReadonlyArray<unknown>>
}>

export interface Copies {
  /** What the next engine begins with; nothing, if it is empty. */
  readonly begin: Copy
  /** Called when an engine was opened; what it is given copies that engine. */
  readonly opened: (take: () => Copy) => void
}

export const Copies = Context.Reference<Copies | undefined>("millrace/internal/Copies", {
  defaultValue: () => undefined
})

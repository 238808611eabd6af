/** The laws of the ports, for an engine of your own: `import { Laws } from "millrace/laws"`. */

/** What the runtime relies on, law by law, as tests of `@effect/vitest` for any implementation of the ports. */
export * as Laws from "./Laws.ts"

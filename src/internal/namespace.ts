/**
 * Under which name an engine keeps what it has. An app gives its name to engines that are told none, and each engine tells
 * its program whether it was told one, so that an app never runs where all that have no name meet.
 */
import { Context } from "effect"

/** For engines that are told no name; set by `App.engine`. */
export const DefaultNamespace = Context.Reference<string | undefined>("millrace/internal/DefaultNamespace", {
  defaultValue: () => undefined
})

/** The engine of this program was told no name, and by no app. An engine in memory is nobody else's, so it needs none. */
export const IsNameless = Context.Reference<boolean>("millrace/internal/IsNameless", { defaultValue: () => false })

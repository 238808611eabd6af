/** Keys of tables as they are stored: in their text form. */
import { Schema } from "effect"
import type { Definition, Key } from "../../Table.ts"

const known = new WeakMap<Definition, (text: string) => Key>()

/** The key that has this text; throws if the schema has none. */
export const keyOf = (definition: Definition): ((text: string) => Key) => {
  let decode = known.get(definition)
  if (decode === undefined) known.set(definition, (decode = keyFrom(definition.key)))
  return decode
}

/** The key of this schema that has this text. */
export const keyFrom = (schema: Definition["key"]): ((text: string) => Key) => {
  const decode = Schema.decodeUnknownSync(Schema.toCodecJson(schema))
  return (text) => {
    try {
      return decode(text)
    } catch (error) {
      // Numbers have no text form in JSON.
      const number = Number(text)
      if (String(number) !== text) throw error
      return decode(number)
    }
  }
}

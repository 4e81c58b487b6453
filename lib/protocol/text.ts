import { z } from 'zod'
import { oneLine } from '../errors/index.js'

/** Text that is kept, or shown to others: of one line, without control characters. @param most longest, in characters */
export function plainText(most: number) {
  return z
    .string()
    .max(most)
    .refine((text) => oneLine(text) === text, 'expected text of one line, without control characters')
}

/** The same as it is read from a store: earlier versions kept what they were given, and are read without it. */
export function storedText() {
  return z.string().overwrite(oneLine)
}

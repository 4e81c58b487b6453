import type { Link } from '../../lib/link/index.js'
import { nameOf } from './catalogue.js'
import type { Processor } from './requests/index.js'

/** A linked processor, as requests use it. */
export function processorOf(link: Link): Processor {
  return {
    name: nameOf(link),
    generate: (request, signal) => link.generate(request, signal),
    embed: (request, call) => link.call('processor.embed', request, call),
  }
}

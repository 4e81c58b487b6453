export type { CallContext, Handler } from './dispatcher.js'
export { Dispatcher } from './dispatcher.js'
export { type GenerationHandler, Net } from './net.js'

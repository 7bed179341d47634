// Names for what the REST face answers. The shapes are generated from the OpenAPI document into schema.ts.

import type { components } from './schema'

type Schemas = components['schemas']

export type SessionInfo = Schemas['SessionInfo']
export type PlatformInfo = Schemas['Info']
export type DeviceLite = Schemas['DeviceLite']
export type Trace = Schemas['Trace']
export type LiveAnswer = Schemas['LiveUrlAnswer']
export type PtzAnswer = Schemas['PtzAnswer']
export type Neighbour = Schemas['Neighbour']

export interface Page<T> {
  list: T[]
  total: number | null
  pageNo: number
  pageSize: number
}

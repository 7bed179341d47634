// Names for what the REST face answers. The shapes are generated from the OpenAPI document into schema.ts.

import type { components } from './schema'

type Schemas = components['schemas']

export type SessionInfo = Schemas['SessionInfo']
export type PlatformInfo = Schemas['Info']
export type DeviceLite = Schemas['DeviceLite']
export type Trace = Schemas['Trace']
export type AuditLine = Schemas['AuditLine']
export type AuditTag = Schemas['AuditTag']
export type SessionQuality = Schemas['WireQuality']
export type LiveAnswer = Schemas['LiveUrlAnswer']
export type RecordingsAnswer = Schemas['TimelineAnswer']
export type SessionAnswer = Schemas['SessionAnswer']
export type PlaybackAnswer = Schemas['PlaybackUrlAnswer']
export type PlaybackState = Schemas['PlaybackState']
export type AudioAnswer = Schemas['AudioAnswer']
export type PtzAnswer = Schemas['PtzAnswer']
export type Neighbour = Schemas['Neighbour']
export type LinkDetail = Schemas['LinkDetail']
export type Direction = Schemas['Direction']
export type Comparison = Schemas['Comparison']
export type MissingDevice = Schemas['Missing']
export type DeviceFull = Schemas['DeviceDetail']
export type FieldChange = Schemas['FieldChange']
export type HistoryEntry = Schemas['HistoryEntry']
export type EditResult = Schemas['EditResult']
export type DevicePage = Schemas['DevicePage']
export type TraceRow = Schemas['TraceRow']
export type TraceTimeline = Schemas['TraceTimeline']
export type TraceStore = Schemas['TraceStore']
export type PeerEntry = Schemas['PeerEntry']
export type PeerDetail = Schemas['PeerDetail']
export type UpperEntry = Schemas['UpperEntry']
export type PeerCatalogue = Schemas['CatalogueRow']
export type DeviceLine = Schemas['DeviceLine']
export type DeviceInfoAnswer = Schemas['DeviceInfo']
export type OnlineLine = Schemas['OnlineLine']
export type StatusLine = Schemas['StatusLine']
export type StatusList = Schemas['StatusList']
export type PresetList = Schemas['PresetList']
export type AlarmRow = Schemas['AlarmRow']
export type MediaNode = Schemas['NodeRow']
export type RecordingRule = Schemas['RecordingRule']
export type RecordingSpace = Schemas['SpaceAnswer']
export type SnapshotOrder = Schemas['SnapshotOrder']
export type TreeKind = 'division' | 'group' | 'platform'
export type TreeNode = Schemas['TreeNode']
export type TreeLevel = Schemas['TreeLevel']
export type RegionPage = Schemas['RegionPage']
export type AreaFound = Schemas['AreaFound']
export type FileFormat = Schemas['Format']
export type FileJob = Schemas['JobAnswer']
export type ImportReport = Schemas['ImportReport']
export type RowError = Schemas['RowError']
export type Service = Schemas['ServiceEntry']
export type ApiKey = Schemas['KeyEntry']
export type QuotaUse = Schemas['QuotaUse']
export type ServiceKind = Schemas['ServiceKind']
export type Alarm = Schemas['AlarmRow']
export type AlarmDetail = Schemas['AlarmDetail']
export type AlarmWords = Schemas['AlarmWords']
export type AckAnswer = Schemas['AckAnswer']
export type ServiceState = Schemas['ServiceState']

/** A device and a rule that it breaks, as ``/api/v1/archive/issues`` lists them. */
export interface DeviceIssue {
  deviceId: string
  name: string
  civilCode: string
  owner: string
  rule: string
  field: string
  severity: 'error' | 'warning' | 'info'
  message: string
}

/** A page of issues with how many devices break each rule. */
export interface IssuePage extends Page<DeviceIssue> {
  counts: { rule: string; severity: DeviceIssue['severity']; message: string; count: number }[]
  isCurrent: boolean
}

export interface Page<T> {
  list: T[]
  total: number | null
  pageNo: number
  pageSize: number
}
export type Ban = Schemas['BanRow']
export type Stranger = Schemas['StrangerRow']
export type Fingerprint = Schemas['FingerprintRow']

"""The 73 operations of the standard, and honest stand-ins for those that are not built yet.

Row, name and method are the standard's and not ours to change; paths and permissions are ours. An operation
that is not built is still routed: its permission is checked first, then it answers 501 with its row.
Not here: the operations that are built; each stands in its feature's http.py with its own Implements line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tongshi.errors import LocalViolation
from tongshi.web.operations import AnyOperation, Call, Nothing, Operation, Quota

BASE = "/api/v1"


@dataclass(frozen=True, slots=True)
class AnnexRow:
    """One line of Tables E.1 to E.4."""

    row: str
    name: str
    method: str
    path: str
    permission: str
    summary: str

    @property
    def has_side_effect(self) -> bool:
        """The standard lists some actions that change state as GET (quirk Z001-5)."""
        return self.row in _CHANGING_GETS


_CHANGING_GETS = frozenset({"E.4-4", "E.4-9", "E.4-19", "E.4-30", "E.4-31"})

_TABLE = """
E.1-1 areaQueryDevices POST /archive/devices/area-query archive:read 地图框选接口
E.1-2 batchGetDevices POST /archive/devices/batch-get archive:read 根据设备 ID 批量查询设备详情
E.1-3 fullDevices POST /archive/devices/full exchange:pull 查询全量设备信息
E.1-4 changedDevices POST /archive/devices/changes exchange:pull 获取设备数据
E.1-5 getDevice GET /archive/devices/{deviceId} archive:read 根据设备 ID 查询设备详情
E.1-6 searchDeviceIds POST /archive/devices/search-ids archive:read 根据搜索条件展示设备 ID
E.1-7 listDevices GET /archive/devices archive:read 权限校验分页查询设备信息
E.1-8 regionDevices POST /archive/regions/devices archive:read 查询行政区划下设备信息
E.1-9 planDevices POST /archive/plans/devices archive:read 查询预案设备信息
E.2-1 stopLive POST /video/live/stop video:close 关闭视频流
E.2-2 liveUrl POST /video/live/url video:live 获取实时流地址
E.2-3 stopPlayback POST /video/playback/stop video:close 关闭历史流
E.2-4 playbackUrl POST /video/playback/url video:playback 获取历史流地址
E.2-5 controlPlayback POST /video/playback/control video:playback 历史流播放控制
E.2-6 controlPtz POST /video/ptz/control ptz:control 云台控制
E.2-7 lockPtz POST /video/ptz/lock ptz:control 云台锁定
E.2-8 unlockPtz POST /video/ptz/unlock ptz:control 云台解锁
E.2-9 deviceStatus POST /video/devices/status status:read 查询设备状态
E.2-10 deviceOnline POST /video/devices/online status:read 查询设备在线
E.2-11 queryQuality POST /video/quality/query status:read 查询音视频质量监测数据
E.2-12 startAudio POST /video/audio/start video:live 获取音频流
E.2-13 stopAudio POST /video/audio/stop video:close 关闭音频流
E.3-1 enumsOfTagGroup GET /tags/groups/{tagGroupCode}/enums tag:read 查询分组下的枚举信息
E.3-2 listTagGroups GET /tags/groups tag:read 获取标签分组列表
E.3-3 placeDictionary GET /tags/place-dictionary tag:read 查询场所标签字典
E.3-4 listTagDefines GET /tags/defines tag:read 获取标签定义列表
E.3-5 allTagDefines GET /tags/defines/all tag:read 获取所有标签定义信息
E.3-6 queryPlaceDictionary POST /tags/place-dictionary tag:read 查询场所标签字典
E.3-7 deviceIdsOfTagEnum GET /tags/enums/{tagEnumCode}/device-ids tag:read 标签枚举下的设备 ID
E.3-8 tagGroupByEnum GET /tags/groups/by-enum tag:read 依据标签枚举和定义编码获取分组信息
E.3-9 queryTagEnums POST /tags/enums/query tag:read 获取标签枚举列表
E.3-10 allTagEnums GET /tags/enums/all tag:read 获取所有枚举信息
E.3-11 resolveTagEnums POST /tags/enums/resolve tag:read 根据定义和枚举名称批量查询枚举
E.3-12 treeDevices POST /tags/tree/devices tag:read 查询树下设备
E.3-13 queryTaggedDevices POST /tags/devices/query tag:read 分页查询标签设备
E.3-14 saveTagEnums POST /tags/enums tag:write 保存枚举信息
E.3-15 annotationStats GET /tags/annotation-stats tag:read 查询标注/未标注数量
E.3-16 tagsOfDevice GET /tags/devices/{deviceId} tag:read 根据设备 ID 查询标签信息
E.3-17 annotateDevices POST /tags/annotate tag:write 场所标签标注
E.3-18 tagTree POST /tags/tree tag:read 标签设备树
E.3-19 searchTags GET /tags/search tag:read 标签模糊查询
E.3-20 searchDefinesByEnum GET /tags/defines/search-by-enum tag:read 根据标签枚举模糊查询标签
E.4-1 plansByTime GET /plans/by-time plan:read 按时间检索预案
E.4-2 plansByUser GET /plans/by-user plan:read 按用户检索预案
E.4-3 sharedPlanCatalogs GET /plans/shared/catalogs plan:read 分享预案目录
E.4-4 copyPlan GET /plans/{planCode}/copy plan:write 复制预案
E.4-5 devicesOfPlan GET /plans/{planCode}/devices plan:read 预案下设备列表
E.4-6 sharedPlans GET /plans/shared plan:read 分享预案列表
E.4-7 sharePlans POST /plans/share plan:write 分享预案
E.4-8 sharesOfPlan GET /plans/{planCode}/shares plan:read 获取该预案下分享人信息
E.4-9 syncPlanToTag GET /plans/{planCode}/sync-app-tag plan:write 预案一键同步应用标签
E.4-10 planImportTemplate GET /plans/import-template plan:read 下载导入模板
E.4-11 exportPlans GET /plans/export plan:read 导出预案
E.4-12 importPlans POST /plans/import plan:write 导入预案
E.4-13 runDevices GET /plans/run/devices plan:run 预案执行入口设备列表接口
E.4-14 runList POST /plans/run/list plan:run 预案执行入口预案列表接口
E.4-15 deletePlanCatalogs POST /plans/catalogs/delete plan:write 预案目录删除
E.4-16 savePlanCatalog POST /plans/catalogs plan:write 预案目录新增或者更新
E.4-17 saveOrder POST /plans/sort plan:write 排序保存
E.4-18 searchPlanCatalogs GET /plans/catalogs plan:read 预案目录检索
E.4-19 runPlan GET /plans/{planCode}/run plan:run 运行预案
E.4-20 deletePlans DELETE /plans plan:write 批量删除预案
E.4-21 clonePlan POST /plans/clone plan:write 克隆预案
E.4-22 deletePlan DELETE /plans/{planCode} plan:write 删除预案
E.4-23 findPlans GET /plans plan:read 查找预案
E.4-24 getPlan GET /plans/{planCode} plan:read 获取预案信息
E.4-25 listScreens GET /screens plan:read 查询屏幕地址列表
E.4-26 layoutsOfRatio GET /layouts plan:read 查询屏幕比例对应布局列表
E.4-27 layoutsOfScreen GET /screens/{screenAddr}/layouts plan:read 查询屏幕地址对应布局列表
E.4-28 savePlanConfig POST /plans/config plan:write 预案配置信息保存和修改
E.4-29 planConfig GET /plans/{planCode}/config plan:read 修改时回显预案信息
E.4-30 changedPlans GET /plans/sync/changes exchange:pull 增量同步预案
E.4-31 fullPlans GET /plans/sync/full exchange:pull 全量同步预案
"""


def _parse(line: str) -> AnnexRow:
    row, name, method, path, permission, summary = line.split(maxsplit=5)
    return AnnexRow(row, name, method, BASE + path, permission, summary)


ROWS = tuple(_parse(line) for line in _TABLE.strip().splitlines())


def complete(
    operations: Sequence[AnyOperation], permission: Callable[[str], StrEnum], audit: StrEnum
) -> list[AnyOperation]:
    """Add a stand-in for every row that ``operations`` do not serve.

    Args:
        permission: makes a member of the permission enum from its value.
        audit: the tag under which calls of stand-ins are recorded.

    Raises:
        LocalViolation: an operation serves a row with another method or name than the standard's.
    """
    built = {operation.row: operation for operation in operations if operation.row}
    for row in ROWS:
        operation = built.get(row.row)
        if operation is not None and (operation.method, operation.summary) != (row.method, row.summary):
            raise LocalViolation(f"{operation.name} differs from row {row.row}: {row.method} {row.summary}")
    return [*operations, *(_stand_in(row, permission, audit) for row in ROWS if row.row not in built)]


def _stand_in(row: AnnexRow, permission: Callable[[str], StrEnum], audit: StrEnum) -> AnyOperation:
    return Operation(
        name=row.name,
        method=row.method,
        path=row.path,
        summary=row.summary,
        permission=permission(row.permission),
        quota=Quota.QUERY,
        audit=audit,
        body=Nothing,
        query=Nothing,
        response=Nothing,
        handler=_unreachable,
        row=row.row,
        has_side_effect=row.has_side_effect,
        is_implemented=False,
    )


async def _unreachable(call: Call[Nothing, Nothing]) -> Nothing:
    raise LocalViolation("the application answers 501 before a stand-in is called")

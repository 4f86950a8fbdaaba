"""Sentences of summaries and warnings."""

from __future__ import annotations

from typing import Final

__all__ = ["SENTENCES"]

SENTENCES: Final[dict[str, tuple[str, str]]] = {
    # Findings
    "key_gap": ("of the {quality} gap closed", "{quality}差距已弥合"),
    "key_factor": ("time, edge alone = 1", "用时（端侧 = 1）"),
    "key_over_cloud": ("time, cloud alone = 1", "用时（云端 = 1）"),
    "key_busy": ("of the cloud’s busy time", "云端占用（相对纯云端）"),
    "interval": ("{low} to {high}", "{low} 至 {high}"),
    "intervals_are": ("Brackets hold {level} intervals.", "括号内为 {level} 置信区间。"),
    "truth_context": (
        "Of {n} samples the cloud alone gets every attribute right in {cloud} and the edge alone in {edge}.",
        "在 {n} 个样本上，纯云端的属性全对率为 {cloud}，纯端侧为 {edge}。",
    ),
    "truth_context_of": (
        "Of {n} samples {cloud_name} gets every attribute right in {cloud} and {edge_name} in {edge}.",
        "在 {n} 个样本上，{cloud_name} 的属性全对率为 {cloud}，{edge_name} 为 {edge}。",
    ),
    "context": (
        "On {n} samples, the cloud alone reaches a CIDEr of {cloud} and the edge alone {edge}.",
        "在 {n} 个样本上，纯云端的 CIDEr 为 {cloud}，纯端侧为 {edge}。",
    ),
    "context_of": (
        "On {n} samples, {cloud_name} reaches a CIDEr of {cloud} and {edge_name} {edge}.",
        "在 {n} 个样本上，{cloud_name} 的 CIDEr 为 {cloud}，{edge_name} 为 {edge}。",
    ),
    "references_are": ("Ratios are over {names}.", "比值的参照为 {names}。"),
    "identical": (
        "All {n} captions are identical to those of {other}.",
        "全部 {n} 条描述与 {other} 完全相同。",
    ),
    "identical_pair": (
        "All {n} captions of {edge_name} and {cloud_name} are identical.",
        "{edge_name} 与 {cloud_name} 的全部 {n} 条描述完全相同。",
    ),
    "identical_cell": ("identical", "完全相同"),
    "gap_whole": (
        "closed {value} of the {quality} gap between edge and cloud ({interval}), which is not "
        "distinguishable from the whole gap",
        "弥合了端云之间{quality}差距的 {value}（{interval}），与完全弥合没有可分辨的差别",
    ),
    "gap_part": (
        "closed {value} of the {quality} gap between edge and cloud ({interval})",
        "弥合了端云之间{quality}差距的 {value}（{interval}）",
    ),
    "gap_above": (
        "scored above the cloud: {value} of the {quality} gap ({interval})",
        "得分高于云端：达到{quality}差距的 {value}（{interval}）",
    ),
    "gap_none": (
        "did not measurably close the {quality} gap between edge and cloud ({value}; {interval})",
        "没有可测地弥合端云之间的{quality}差距（{value}；{interval}）",
    ),
    "gap_below": (
        "scored below the edge: {value} of the {quality} gap ({interval})",
        "得分低于端侧：{quality}差距的 {value}（{interval}）",
    ),
    "gap_point": (
        "closed {value} of the {quality} gap, without an interval",
        "弥合了{quality}差距的 {value}，无置信区间",
    ),
    "gap_undefined": (
        "has no {quality} gap to close ({reason})",
        "没有可弥合的{quality}差距（{reason}）",
    ),
    "factor_slower": (
        "took {value} times as long as the edge alone ({interval})",
        "用时为纯端侧的 {value} 倍（{interval}）",
    ),
    "factor_faster": (
        "needed {value} ({interval}) of the edge’s time, {gain} less",
        "只用端侧时间的 {value}（{interval}），缩短 {gain}",
    ),
    "factor_equal": (
        "took as long as the edge alone, as far as can be told ({value} times; {interval})",
        "与纯端侧用时没有可分辨的差别（{value} 倍；{interval}）",
    ),
    "factor_point": (
        "took {value} times as long as the edge, without an interval",
        "用时为端侧的 {value} 倍，无置信区间",
    ),
    "factor_undefined": (
        "cannot be compared with the edge in time or quality ({reason})",
        "无法与端侧比较用时和质量（{reason}）",
    ),
    "over_cloud": (
        "It took {value} times as long as the cloud alone ({interval}).",
        "用时为纯云端的 {value} 倍（{interval}）。",
    ),
    "over_cloud_equal": (
        "It took as long as the cloud alone, as far as can be told ({value} times; {interval}).",
        "与纯云端用时没有可分辨的差别（{value} 倍；{interval}）。",
    ),
    "over_cloud_point": (
        "It took {value} times as long as the cloud alone, without an interval.",
        "用时为纯云端的 {value} 倍，无置信区间。",
    ),
    "busy_share": (
        "It kept the cloud busy for {own} s a sample, {value} of what the cloud alone needs "
        "({interval}).",
        "每个样本占用云端 {own} 秒，为纯云端的 {value}（{interval}）。",
    ),
    "cloud_undefined": (
        "It is not compared with the cloud alone ({reason}).",
        "未与纯云端比较（{reason}）。",
    ),
    "busy_point": (
        "It kept the cloud busy for {own} s a sample.",
        "每个样本占用云端 {own} 秒。",
    ),
    "gap_share": (
        "Of the gap in {quality} it closed {value} ({interval}).",
        "在{quality}的差距中弥合了 {value}（{interval}）。",
    ),
    "detectable_in": ("{value} in {quality}", "{quality} {value}"),
    "detectable": (
        "For other recordings like these {n}, a difference to the cloud is told from none from about "
        "{values} on (half the paired interval); between these very captions every difference is exact.",
        "换一批同类录音（{n} 条）时，与云端的差别约从 {values} 起可与无差别区分（配对区间的半宽）；"
        "就这些描述本身而言，任何差别都是精确的。",
    ),
    "tokens_share": (
        "{value} of its tokens were the cloud’s choice.",
        "{value} 的词元由云端选定。",
    ),
    "equal_share": (
        "{value} of its captions are the cloud’s own, token for token.",
        "{value} 的描述与云端逐词元相同。",
    ),
    "sentence": ("{arm} {first}, and {second}.", "{arm}{first}，{second}。"),
    "cloud_sentence": (
        "The cloud alone {factor}.",
        "纯云端{factor}。",
    ),
    "cloud_sentence_of": ("{arm} {factor}.", "{arm}{factor}。"),
    "spec_arm": ("Speculative decoding with {rule} acceptance", "采用 {rule} 接受规则的推测解码"),
    "nothing_to_compare": (
        "There is one arm only in this group; nothing is compared.",
        "这一组只有一个方案，没有可比较的对象。",
    ),
    "no_edge": (
        "There is no edge-alone arm in this group, so nothing is compared with it.",
        "这一组没有纯端侧方案，无法与之比较。",
    ),
    "time_modelled": (
        "Times are computed from the hardware profile “{profile}”, not measured.",
        "时间由硬件配置“{profile}”推算得出，并非实测。",
    ),
    "time_wall": (
        "Times are wall-clock measurements on the machine described below.",
        "时间为在下述机器上的实测墙钟时间。",
    ),
    "time_modelled_of": (
        "Times of {arms} are computed from the hardware profile “{profile}”, not measured.",
        "{arms} 的时间由硬件配置“{profile}”推算得出，并非实测。",
    ),
    "time_wall_of": (
        "Times of {arms} are wall-clock measurements.",
        "{arms} 的时间为实测墙钟时间。",
    ),
    "arms_all": ("all {n} arms", "全部 {n} 个方案"),
    "arms_many": ("{names} and {n} others", "{names} 及另外 {n} 个方案"),
    # Warnings
    "warn_few": (
        "{group}, {arm}: only {n} samples; intervals are wide.",
        "{group}，{arm}：只有 {n} 个样本，区间较宽。",
    ),
    "warn_failed": (
        "{group}, {arm}: {n} of {all} samples failed; they are not scored.",
        "{group}，{arm}：{all} 个样本中有 {n} 个失败，未计分。",
    ),
    "warn_degraded": (
        "{group}, {arm}: {n} samples were degraded to the edge.",
        "{group}，{arm}：{n} 个样本降级为端侧解码。",
    ),
    "warn_certified": (
        "{group}, {arm}: certified for these models and settings and the {gate} gate at threshold {threshold}: on data drawn as the {n} samples of the calibration were, the mean loss ({loss}) is at most {risk}, with {confidence} confidence. These data do not differ from the calibration's in what the gate sees (p = {p}).{uncovered}",
        "{group}，{arm}：对这两个模型、这些设置以及阈值为 {threshold} 的 {gate} 门控的保证：在与 {n} 个校准样本同分布的数据上，平均损失（{loss}）不超过 {risk}，置信度 {confidence}。门控所见的数据与校准集无可分辨的差别（p = {p}）。{uncovered}",
    ),
    "warn_certified_few": (
        "{group}, {arm}: certified for these models and settings and the {gate} gate at threshold {threshold}: on data drawn as the {n} samples of the calibration were, the mean loss ({loss}) is at most {risk}, with {confidence} confidence. Fewer than {fewest} captions are too few to tell whether these data are like the calibration's.{uncovered}",
        "{group}，{arm}：对这两个模型、这些设置以及阈值为 {threshold} 的 {gate} 门控的保证：在与 {n} 个校准样本同分布的数据上，平均损失（{loss}）不超过 {risk}，置信度 {confidence}。不足 {fewest} 条描述，无法判断这些数据是否与校准集同类。{uncovered}",
    ),
    "warn_certified_other": (
        "{group}, {arm}: these data differ from the calibration's in what the gate sees (p = {p}): the certificate of the calibration file says nothing of them.",
        "{group}，{arm}：门控所见的数据与校准集不同（p = {p}）：校准文件中的保证对这些数据不成立。",
    ),
    "warn_uncovered": (
        " The certificate says nothing of {n} of the {all} captions: {list}.",
        "{all} 条描述中有 {n} 条不在此保证之内：{list}。",
    ),
    "warn_uncovered_degraded": (
        "{n} finished without the cloud",
        "{n} 条未经云端完成",
    ),
    "warn_uncovered_failed": (
        "{n} failed",
        "{n} 条失败",
    ),
    "warn_none_covered": (
        "{group}, {arm}: the certificate of its calibration file is not shown: no caption was finished with the cloud.",
        "{group}，{arm}：没有一条描述是在云端参与下完成的，校准文件中的保证在此不成立。",
    ),
    "warn_uncertified": (
        "{group}, {arm}: the certificate of its calibration file is of another policy and does not hold here: {list}.",
        "{group}，{arm}：校准文件中的保证属于另一种策略，在此不成立：{list}。",
    ),
    "warn_nothing_certified": (
        "{group}, {arm}: its calibration file certifies nothing: no threshold was found to keep the risk.",
        "{group}，{arm}：校准文件没有任何保证：未找到能守住该风险的阈值。",
    ),
    "warn_differing": (
        "{name} {own}, certified {certified}",
        "{name} 为 {own}，保证的是 {certified}",
    ),
    "warn_between": (
        "; ",
        "；",
    ),
    "loss_attributes": (
        "the share of attributes that the cloud alone has right and the caption has not",
        "纯云端说对而该描述没有说对的属性比例",
    ),
    "loss_tokens": (
        "the share of tokens that do not match those of the cloud alone",
        "与纯云端不匹配的词元比例",
    ),
    "loss_cider": (
        "the CIDEr that the caption has less than the cloud alone, divided by 10",
        "该描述比纯云端低的 CIDEr 除以 10",
    ),
    "warn_clocks": (
        "{group}: arms were timed by different clocks ({clocks}); do not compare their times.",
        "{group}：各方案使用了不同的时钟（{clocks}），不可比较时间。",
    ),
    "warn_commits": (
        "{group}: arms were run with different commits ({commits}).",
        "{group}：各方案运行于不同的提交（{commits}）。",
    ),
    "warn_hosts": (
        "{group}: arms ran on different machines ({hosts}).",
        "{group}：各方案在不同机器上运行（{hosts}）。",
    ),
    "warn_turns": (
        "{group}: arms were timed one after the other, so that a change of the machine’s load in "
        "between is part of their ratio; --interleave lets them take turns.",
        "{group}：各方案先后计时，其间机器负载的变化会混入用时之比；--interleave 可让它们逐样本交替运行。",
    ),
    "warn_ids": (
        "{group}, {arm}: it and {other} cover different samples; paired figures use the {n} that "
        "both completed.",
        "{group}，{arm}：与 {other} 覆盖的样本不同，配对比较使用双方都完成的 {n} 个。",
    ),
    "warn_models": (
        "{group}: the {side} model differs between arms.",
        "{group}：各方案的{side}模型不同。",
    ),
    "warn_former": (
        "{group}: the {side} model of an arm is known by its headers alone: names and shapes are equal, "
        "whether the weights are cannot be told.",
        "{group}：有方案的{side}模型仅由文件头识别：张量名称与形状相同，权重是否相同无从得知。",
    ),
    "warn_dirty": (
        "{group}, {arm}: the code had uncommitted changes.",
        "{group}，{arm}：代码有未提交的修改。",
    ),
    "warn_floors": (
        "{group}, {arm}: quality floors failed.",
        "{group}，{arm}：未达到质量下限。",
    ),
    "warn_drift": (
        "{group}, {arm}: the second half of the run took {value} times as long as the first.",
        "{group}，{arm}：后半程用时为前半程的 {value} 倍。",
    ),
    "warn_load": (
        "{group}, {arm}: the machine was busy (load {load} on {cores} cores).",
        "{group}，{arm}：机器繁忙（{cores} 核，负载 {load}）。",
    ),
    "warn_memory": (
        "{group}, {arm}: {n} samples went over the memory cap.",
        "{group}，{arm}：{n} 个样本超出内存上限。",
    ),
    "warn_late": (
        "{group}, {arm}: in {n} samples tokens were delivered together, later than they were made; they "
        "have no TPOT.",
        "{group}，{arm}：有 {n} 个样本的词元晚于生成时刻成批送达，因此没有 TPOT。",
    ),
    "warn_recordings": (
        "{group}, {arm}: {n} of {all} recordings cannot be right: {list}.",
        "{group}，{arm}：{all} 段录音中有 {n} 段明显有问题：{list}。",
    ),
    "warn_defects": (
        "{group}, {arm}: defects in captions: {list}.",
        "{group}，{arm}：描述中的缺陷：{list}。",
    ),
    "warn_unstable": ("{group}, {arm}: CIDEr: {note}.", "{group}，{arm}：CIDEr：{note}。"),
    "warn_tokens": (
        "{group}: captions are shown whole where their tokens could not be turned back into text; "
        "give --tokenizer.",
        "{group}：无法把词元还原为文本的描述整段显示；可用 --tokenizer 指定分词器。",
    ),
    "warn_audio": (
        "{group}: recordings are not embedded: {reason}.",
        "{group}：未嵌入录音：{reason}。",
    ),
    "audio_not_asked": ("--embed-audio was not given", "未指定 --embed-audio"),
    "audio_none": ("the samples are prompts of text alone", "样本只有文本提示，没有录音"),
    "journal_missing": ("there is no {path}", "{path} 不存在"),
    "journal_foreign": ("{path} is of another run", "{path} 属于另一次运行"),
}

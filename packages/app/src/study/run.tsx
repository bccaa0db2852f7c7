/** The run of a study: asked for here, and followed whoever asked for it. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { type Study, type StudyProgress, api } from "../api";
import { attempt, connected, refreshStudyRun, say, studyRuns } from "../state";
import { words } from "../strings";
import { Progress } from "../parts/parts";

const text = words.study;

interface Run {
  busy: boolean;
  progress: StudyProgress | undefined;
  start: () => Promise<void>;
}

/** Run a study; `onChange` takes what became of it. */
export function useRun(study: Study, onChange: (study: Study) => void): Run {
  const asking = useSignal(false);
  const progress = studyRuns.value[study.id];
  const running = progress !== undefined;
  const wasRunning = useRef(false);
  useEffect(() => {
    // Also after the connection was lost, when the end may have been missed.
    if (connected.value !== false) void refreshStudyRun(study.id);
  }, [study.id, connected.value]);
  useEffect(() => {
    // A run that was asked for here is answered with the study.
    const ended = wasRunning.current && !running && !asking.value;
    wasRunning.current = running;
    if (ended) void attempt(api.study(study.id)).then((after) => after && onChange(after));
  }, [running]);
  const start = async () => {
    asking.value = true;
    const after = await attempt(api.runStudy(study.id));
    asking.value = false;
    if (!after) return;
    if (after.state === "done") say(text.ran);
    onChange(after);
  };
  return { busy: asking.value || running, progress, start };
}

/** The share of a run that is done: reading and summarising count alike. */
export function shareOfRun({ read, summarised, total }: StudyProgress): number | null {
  return total ? (read + summarised) / (2 * total) : null;
}

export function RunProgress({ name, progress }: { name: string; progress: StudyProgress }) {
  const { read, summarised, total } = progress;
  const all = total > 0 && summarised === total;
  return (
    <div class="run">
      <Progress share={shareOfRun(progress)} label={text.progressOf(name)} />
      <p class="soft num">{all ? text.comparing(total) : text.progress(read, summarised, total)}</p>
    </div>
  );
}

/** The queue: what is being read, what waits, what became of it. */
import { type Job, type JobAction, api } from "../api";
import { count, duration, percent } from "../format";
import { attempt, href, jobs, putJob, refreshJobs } from "../state";
import { words } from "../strings";
import { Bin } from "../parts/icons";
import { Await, Progress } from "../parts/parts";

const text = words.queue;

const ACTIONS: Record<Job["state"], JobAction[]> = {
  waiting: ["cancel"],
  running: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  done: [],
  failed: ["retry"],
  cancelled: ["retry"],
};

/** What can be asked of a job; of one that is done only where some of its inputs failed. */
function actionsOf(job: Job): JobAction[] {
  return job.state === "done" && job.problem ? ["retry"] : ACTIONS[job.state];
}

/** How much of a job is done: by seconds of film where known, else by files. */
export function shareOf(job: Job): number | null {
  if (job.state === "done") return 1;
  if (job.seconds_total) return Math.min(1, job.seconds_done / job.seconds_total);
  return job.total > 1 ? job.done / job.total : job.state === "running" ? null : 0;
}

function facts(job: Job): string {
  const parts: string[] = [];
  if (job.total > 1) parts.push(text.files(job.done, job.total));
  if (job.rows) parts.push(text.rows(count(job.rows)));
  if (job.state === "running" && job.eta_s !== null) parts.push(text.left(duration(job.eta_s)));
  return parts.join(" · ");
}

function JobRow({ job }: { job: Job }) {
  const share = shareOf(job);
  const act = async (action: JobAction) => {
    const changed = await attempt(api.jobAction(job.id, action));
    if (changed) putJob(changed);
  };
  const remove = async () => {
    await attempt(api.removeJob(job.id));
    await refreshJobs();
  };
  const actions = actionsOf(job);
  const over = actions.every((action) => action === "retry");
  return (
    <li class={`job ${job.state}`} data-job={job.id}>
      <div class="what">
        <b class="name">{job.name}</b>
        <span class={`state ${job.state}`}>{text.states[job.state]}</span>
        <span class="soft num">{facts(job)}</span>
      </div>
      {!over && (
        <div class="how">
          <Progress share={share} label={text.progress(job.name)} />
          <span class="num">{share === null ? "" : percent(share)}</span>
        </div>
      )}
      {job.problem && <p class="problem">{job.problem}</p>}
      <div class="tools">
        {job.recordings[0] !== undefined && <a class="button" href={href("watch", job.recordings[0])} aria-label={text.openJob(job.name)}>{text.open}</a>}
        {actions.map((action) => (
          <button key={action} onClick={() => void act(action)} aria-label={`${text.actions[action]} ${job.name}`}>
            {text.actions[action]}
          </button>
        ))}
        {over && (
          <button class="bare" onClick={() => void remove()} aria-label={text.remove(job.name)} title={text.remove(job.name)}>
            <Bin />
          </button>
        )}
      </div>
    </li>
  );
}

export function Queue() {
  return (
    <section aria-labelledby="queue">
      <h2 id="queue">{text.title}</h2>
      <Await data={jobs.value} retry={() => void refreshJobs()}>
        {(all) =>
          all.length === 0 ? (
            <p class="soft">{text.empty}</p>
          ) : (
            <ul class="jobs">{all.map((job) => <JobRow key={job.id} job={job} />)}</ul>
          )
        }
      </Await>
    </section>
  );
}

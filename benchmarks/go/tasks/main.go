// Command tasks is the Go peer of the task benchmarks: asynq itself, as its documentation shows.
//
// It has the roles of benchmarks/contenders/tasks/produce.py and a worker, and follows the contract of
// benchmarks/contenders/contract.py: a line {"ready": true}, then a line on standard input as the signal to
// begin, then one line with the outcome. What a worker has run stands in the journal
// (benchmarks/contenders/tasks/journal.py), a file that is mapped into memory.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hibiken/asynq"
	"golang.org/x/sys/unix"
)

const (
	concurrency   = 100
	fillers       = 10               // goroutines that fill a queue
	firstPatience = 25 * time.Second // a worker that has not run its first task by then has not started
	day           = 24 * time.Hour
)

// settings are the options that matter here.
type settings struct {
	callers         int
	seconds, warmUp float64
	events, payload int
	pause           float64
	seed            int64
}

// outcome is the line that a contender ends with.
type outcome struct {
	Operations int                `json:"operations"`
	Seconds    float64            `json:"seconds"`
	CPUSeconds float64            `json:"cpu_seconds"`
	Figures    map[string]float64 `json:"figures,omitempty"`
}

// journal says which tasks have run and how old they were: an int64 for each, then a byte for each.
type journal struct {
	ages   []int64
	counts []byte
	lock   sync.Mutex
}

func openJournal() (*journal, error) {
	file, err := os.OpenFile(os.Getenv("PULSEWIRE_BENCH_JOURNAL"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	whole, err := unix.Mmap(int(file.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	slots := len(whole) / 9
	return &journal{ages: unsafe.Slice((*int64)(unsafe.Pointer(&whole[0])), slots), counts: whole[8*slots:]}, nil
}

func (j *journal) note(index int) {
	j.lock.Lock()
	j.counts[index]++
	j.lock.Unlock()
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: tasks ROLE ...")
	}
	role := os.Args[1]
	flags := flag.NewFlagSet(role, flag.ExitOnError)
	var s settings
	flags.IntVar(&s.callers, "callers", 1, "goroutines that enqueue")
	flags.Float64Var(&s.seconds, "seconds", 1, "how long to enqueue")
	flags.Float64Var(&s.warmUp, "warm-up", 0.2, "how long to enqueue before that")
	flags.IntVar(&s.events, "events", 1, "how many tasks to enqueue")
	flags.IntVar(&s.payload, "payload", 0, "bytes of a task's body")
	flags.Float64Var(&s.pause, "pause", 0.02, "mean seconds between two tasks of a latency run")
	flags.Int64Var(&s.seed, "seed", 1, "seed of these pauses")
	for _, name := range []string{"url", "stream", "group", "way"} {
		flags.String(name, "", "for other contenders")
	}
	if err := flags.Parse(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
	options, err := asynq.ParseRedisURI(os.Getenv("PULSEWIRE_BENCH_URL"))
	if err != nil {
		log.Fatal(err)
	}
	notes, err := openJournal()
	if err != nil {
		log.Fatal(err)
	}
	if role == "worker" {
		log.Fatal(serve(options, notes))
	}
	roles := map[string]func(*asynq.Client, *journal, settings) (outcome, error){
		"enqueue": enqueue, "fill": fill, "schedule": schedule, "pace": pace,
	}
	run, known := roles[role]
	if !known {
		log.Fatalf("unknown role %q", role)
	}
	client := asynq.NewClient(options)
	defer client.Close()
	result, err := run(client, notes, s)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

// serve runs tasks until it is killed.
func serve(options asynq.RedisConnOpt, notes *journal) error {
	mux := asynq.NewServeMux()
	mux.HandleFunc("work", func(_ context.Context, task *asynq.Task) error {
		first, _, _ := bytes.Cut(task.Payload(), []byte(" "))
		index, err := strconv.Atoi(string(first))
		if err != nil {
			return err
		}
		notes.note(index)
		return nil
	})
	mux.HandleFunc("timed", func(_ context.Context, task *asynq.Task) error {
		now := monotonic()
		first, second, _ := bytes.Cut(task.Payload(), []byte(" "))
		index, err := strconv.Atoi(string(first))
		if err != nil {
			return err
		}
		sent, err := strconv.ParseInt(string(second), 10, 64)
		if err != nil {
			return err
		}
		notes.ages[index] = now - sent
		notes.note(index)
		return nil
	})
	return asynq.NewServer(options, asynq.Config{Concurrency: concurrency}).Run(mux)
}

// workTask does nothing, with as large a body as the settings say.
func workTask(index int, s settings) *asynq.Task {
	payload := strconv.AppendInt(nil, int64(index), 10)
	if s.payload > 0 {
		payload = append(append(payload, ' '), bytes.Repeat([]byte("x"), s.payload)...)
	}
	return asynq.NewTask("work", payload)
}

// timedTask is enqueued now.
func timedTask(index int) *asynq.Task {
	return asynq.NewTask("timed", fmt.Appendf(nil, "%d %d", index, monotonic()))
}

// enqueue lets so many goroutines enqueue for the settings' time.
func enqueue(client *asynq.Client, _ *journal, s settings) (outcome, error) {
	operation := func() error {
		_, err := client.Enqueue(workTask(0, s))
		return err
	}
	before, err := repeatFor(operation, s.callers, s.warmUp)
	if err != nil {
		return outcome{}, err
	}
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	count, err := repeatFor(operation, s.callers, s.seconds)
	result := since(begin, cpu, count)
	result.Figures = map[string]float64{"queued": float64(before + count)}
	return result, err
}

// fill enqueues so many tasks.
func fill(client *asynq.Client, _ *journal, s settings) (outcome, error) {
	return enqueueAll(client, s)
}

// schedule enqueues so many tasks that are not due before tomorrow.
func schedule(client *asynq.Client, _ *journal, s settings) (outcome, error) {
	return enqueueAll(client, s, asynq.ProcessIn(day))
}

func enqueueAll(client *asynq.Client, s settings, options ...asynq.Option) (outcome, error) {
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	var next atomic.Int64
	var failure atomic.Pointer[error]
	var callers sync.WaitGroup
	for range fillers {
		callers.Add(1)
		go func() {
			defer callers.Done()
			for index := int(next.Add(1)) - 1; index < s.events; index = int(next.Add(1)) - 1 {
				if _, err := client.Enqueue(workTask(index, s), options...); err != nil {
					failure.Store(&err)
					return
				}
			}
		}()
	}
	callers.Wait()
	if err := failure.Load(); err != nil {
		return outcome{}, *err
	}
	return since(begin, cpu, s.events), nil
}

// pace enqueues tasks that carry the time of their own enqueuing, some milliseconds apart, once the worker answers.
func pace(client *asynq.Client, notes *journal, s settings) (outcome, error) {
	if _, err := client.Enqueue(timedTask(0)); err != nil {
		return outcome{}, err
	}
	for limit := time.Now().Add(firstPatience); notes.counts[0] == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			return outcome{}, errors.New("the worker has not run its first task")
		}
	}
	pauses := rand.New(rand.NewSource(s.seed))
	if err := waitForGo(); err != nil {
		return outcome{}, err
	}
	begin, cpu := time.Now(), cpuSeconds()
	for index := 1; index <= s.events; index++ {
		time.Sleep(time.Duration(s.pause * (0.5 + pauses.Float64()) * float64(time.Second)))
		if _, err := client.Enqueue(timedTask(index)); err != nil {
			return outcome{}, err
		}
	}
	return since(begin, cpu, s.events), nil
}

// repeatFor lets so many goroutines repeat the operation, and says how often it was done.
func repeatFor(operation func() error, goroutines int, seconds float64) (int, error) {
	deadline := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var total atomic.Int64
	var failure atomic.Pointer[error]
	var callers sync.WaitGroup
	for range goroutines {
		callers.Add(1)
		go func() {
			defer callers.Done()
			count := int64(0)
			for time.Now().Before(deadline) {
				if err := operation(); err != nil {
					failure.Store(&err)
					return
				}
				count++
			}
			total.Add(count)
		}()
	}
	callers.Wait()
	if err := failure.Load(); err != nil {
		return 0, *err
	}
	return int(total.Load()), nil
}

// waitForGo says that everything is prepared and returns when the measurement may begin.
func waitForGo() error {
	fmt.Println(`{"ready": true}`)
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	return err
}

func since(begin time.Time, cpu float64, operations int) outcome {
	return outcome{Operations: operations, Seconds: time.Since(begin).Seconds(), CPUSeconds: cpuSeconds() - cpu}
}

func cpuSeconds() float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
}

// monotonic is the clock that all processes of one machine share.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		log.Fatal(err)
	}
	return now.Nano()
}

// Command asynq is the Go asynq peer of the task benchmarks: asynq itself, used as its documentation shows.
//
// It has the roles of benchmarks/contenders/tasks/produce.py and a worker, and follows
// benchmarks/contenders/contract.py. What a worker has run stands in the journal
// (benchmarks/contenders/tasks/journal.py), a file that is mapped into memory.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hibiken/asynq"
	"golang.org/x/sys/unix"

	"pulsewire/benchmarks/go/contract"
)

const (
	concurrency   = 100
	fillers       = 10               // goroutines that fill a queue
	firstPatience = 25 * time.Second // a worker that has not run its first task by then has not started
	day           = 24 * time.Hour
)

type (
	settings = contract.Settings
	outcome  = contract.Outcome
)

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
	contract.Main(map[string]contract.Role{
		"enqueue":  producing(enqueue),
		"fill":     producing(fill),
		"schedule": producing(schedule),
		"pace":     producing(pace),
		"worker":   serve,
	})
}

// opened says where the server is and which tasks have run.
func opened() (asynq.RedisConnOpt, *journal, error) {
	options, err := asynq.ParseRedisURI(os.Getenv("PULSEWIRE_BENCH_URL"))
	if err != nil {
		return nil, nil, err
	}
	notes, err := openJournal()
	return options, notes, err
}

// producing gives a role its client.
func producing(run func(*asynq.Client, *journal, settings) (outcome, error)) contract.Role {
	return func(_ context.Context, s settings) (outcome, error) {
		options, notes, err := opened()
		if err != nil {
			return outcome{}, err
		}
		client := asynq.NewClient(options)
		defer client.Close()
		return run(client, notes, s)
	}
}

// serve runs tasks until it is killed.
func serve(context.Context, settings) (outcome, error) {
	options, notes, err := opened()
	if err != nil {
		return outcome{}, err
	}
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
		now := contract.Monotonic()
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
	return outcome{}, asynq.NewServer(options, asynq.Config{Concurrency: concurrency}).Run(mux)
}

// workTask does nothing, with as large a body as the settings say.
func workTask(index int, s settings) *asynq.Task {
	payload := strconv.AppendInt(nil, int64(index), 10)
	if s.Payload > 0 {
		payload = append(append(payload, ' '), bytes.Repeat([]byte("x"), s.Payload)...)
	}
	return asynq.NewTask("work", payload)
}

// timedTask is enqueued now.
func timedTask(index int) *asynq.Task {
	return asynq.NewTask("timed", fmt.Appendf(nil, "%d %d", index, contract.Monotonic()))
}

// enqueue lets so many goroutines enqueue for the settings' time.
func enqueue(client *asynq.Client, _ *journal, s settings) (outcome, error) {
	result, before, err := contract.Load(func() error {
		_, err := client.Enqueue(workTask(0, s))
		return err
	}, s)
	result.Figures = map[string]float64{"queued": float64(before + result.Operations)}
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
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Measure(func() (int, error) {
		var next atomic.Int64
		return s.Events, contract.AtOnce(fillers, func() error {
			for index := int(next.Add(1)) - 1; index < s.Events; index = int(next.Add(1)) - 1 {
				if _, err := client.Enqueue(workTask(index, s), options...); err != nil {
					return err
				}
			}
			return nil
		})
	})
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
	pauses := rand.New(rand.NewSource(s.Seed))
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Measure(func() (int, error) {
		for index := 1; index <= s.Events; index++ {
			time.Sleep(time.Duration(s.Pause * (0.5 + pauses.Float64()) * float64(time.Second)))
			if _, err := client.Enqueue(timedTask(index)); err != nil {
				return 0, err
			}
		}
		return s.Events, nil
	})
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

var (
	errBroken = errors.New("broken")
	runs      atomic.Int64
)

// plan is how a server serves. Durations are seconds.
type plan struct {
	Name        string         `json:"name"`
	Queues      map[string]int `json:"queues"`
	Strict      bool           `json:"strict"`
	Concurrency int            `json:"concurrency"`
	RetryDelay  *float64       `json:"retry_delay"` // 0 where absent; asynq's own where null
	GroupSize   int            `json:"group_size"`
	GroupGrace  float64        `json:"group_grace"`
	Patience    float64        `json:"shutdown_timeout"`
}

// begun is told when a handler begins, ended when it has ended.
type begun struct {
	Event    string            `json:"event"`
	Run      int64             `json:"run"` // a number for each run of this server
	At       float64           `json:"at"`  // Unix seconds
	By       string            `json:"by"`
	ID       string            `json:"id"`
	Type     string            `json:"type"`
	Payload  []byte            `json:"payload"`
	Headers  map[string]string `json:"headers"`
	Queue    string            `json:"queue"`
	Retried  int               `json:"retried"`
	MaxRetry int               `json:"max_retry"`
	Left     float64           `json:"left"` // seconds until the deadline
}

type ended struct {
	Event string `json:"event"`
	Run   int64  `json:"run"`
	By    string `json:"by"`
	ID    string `json:"id"`
	Error string `json:"error"`
}

func serve(redis asynq.RedisConnOpt, settings []byte) error {
	atOnce := 0.0
	chosen := plan{Name: "go", Concurrency: 10, RetryDelay: &atOnce, GroupGrace: 1, Patience: 0.1}
	if err := json.Unmarshal(settings, &chosen); err != nil {
		return err
	}
	config := asynq.Config{
		Concurrency:              chosen.Concurrency,
		Queues:                   chosen.Queues,
		StrictPriority:           chosen.Strict,
		TaskCheckInterval:        20 * time.Millisecond,
		DelayedTaskCheckInterval: 50 * time.Millisecond,
		JanitorInterval:          100 * time.Millisecond,
		ShutdownTimeout:          seconds(chosen.Patience),
		LogLevel:                 asynq.WarnLevel,
	}
	if chosen.RetryDelay != nil {
		config.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration {
			return seconds(*chosen.RetryDelay)
		}
	}
	if chosen.GroupSize > 0 {
		config.GroupMaxSize = chosen.GroupSize
		config.GroupGracePeriod = seconds(chosen.GroupGrace)
		config.GroupAggregator = asynq.GroupAggregatorFunc(joined)
	}
	server := asynq.NewServer(redis, config)
	if err := server.Start(asynq.HandlerFunc(chosen.handle)); err != nil {
		return err
	}
	tell(map[string]any{"event": "ready", "by": chosen.Name, "pid": os.Getpid()})
	untilInputEnds()
	server.Shutdown()
	return nil
}

// joined makes one task of the members of a group.
func joined(group string, tasks []*asynq.Task) *asynq.Task {
	var payloads [][]byte
	for _, one := range tasks {
		payloads = append(payloads, one.Payload())
	}
	return asynq.NewTask("note:"+group, bytes.Join(payloads, []byte(",")), asynq.Retention(time.Hour))
}

func (p plan) handle(ctx context.Context, task *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	retried, _ := asynq.GetRetryCount(ctx)
	maxRetry, _ := asynq.GetMaxRetry(ctx)
	fact := begun{
		Event: "begun", Run: runs.Add(1), At: float64(time.Now().UnixMicro()) / 1e6, By: p.Name, ID: id, Type: task.Type(), Payload: task.Payload(), Headers: task.Headers(),
		Queue: queue, Retried: retried, MaxRetry: maxRetry,
	}
	if deadline, is := ctx.Deadline(); is {
		fact.Left = time.Until(deadline).Seconds()
	}
	tell(fact)
	err := do(ctx, task, retried)
	text := ""
	if err != nil {
		text = err.Error()
	}
	tell(ended{Event: "ended", Run: fact.Run, By: p.Name, ID: id, Error: text})
	return err
}

// do is what the first word of a task's type asks for. asynq_worker.py does the same in Python.
func do(ctx context.Context, task *asynq.Task, retried int) error {
	verb, _, _ := strings.Cut(task.Type(), ":")
	switch verb {
	case "note", "hold-in-python":
		return nil
	case "nap":
		time.Sleep(20 * time.Millisecond)
		return nil
	case "result":
		_, err := task.ResultWriter().Write(task.Payload())
		return err
	case "fail":
		return errBroken
	case "once":
		if retried == 0 {
			return errBroken
		}
		return nil
	case "skip":
		return fmt.Errorf("%w: %w", errBroken, asynq.SkipRetry)
	case "revoke":
		return fmt.Errorf("%w: %w", errBroken, asynq.RevokeTask)
	case "hold", "hold-in-go":
		<-ctx.Done()
		return ctx.Err()
	}
	return fmt.Errorf("nobody does %q", verb)
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

const atOnce = 10 // tasks that are enqueued at a time when many are

// question is one of
//
//	{"enqueue": [task, ...]}                 the answer is a list: what each became, or {"error": text}
//	{"inspect": method, "arguments": [...]}  the answer is what the method of asynq.Inspector returns, likewise
type question struct {
	Enqueue   []task            `json:"enqueue"`
	Inspect   string            `json:"inspect"`
	Arguments []json.RawMessage `json:"arguments"`
}

// task is a new task. Durations are seconds, points in time Unix seconds; what is absent is not given to asynq.
type task struct {
	Type      string            `json:"type"`
	Payload   []byte            `json:"payload"` // base64; null is none
	Headers   map[string]string `json:"headers"`
	Queue     *string           `json:"queue"`
	ID        *string           `json:"task_id"`
	MaxRetry  *int              `json:"max_retry"`
	Timeout   *float64          `json:"timeout"`
	Deadline  *int64            `json:"deadline"`
	Unique    *float64          `json:"unique"`
	ProcessAt *int64            `json:"process_at"`
	ProcessIn *float64          `json:"process_in"`
	Retention *float64          `json:"retention"`
	Group     *string           `json:"group"`
}

func (t task) options() []asynq.Option {
	var options []asynq.Option
	if t.Queue != nil {
		options = append(options, asynq.Queue(*t.Queue))
	}
	if t.ID != nil {
		options = append(options, asynq.TaskID(*t.ID))
	}
	if t.MaxRetry != nil {
		options = append(options, asynq.MaxRetry(*t.MaxRetry))
	}
	if t.Timeout != nil {
		options = append(options, asynq.Timeout(seconds(*t.Timeout)))
	}
	if t.Deadline != nil {
		options = append(options, asynq.Deadline(time.Unix(*t.Deadline, 0)))
	}
	if t.Unique != nil {
		options = append(options, asynq.Unique(seconds(*t.Unique)))
	}
	if t.ProcessAt != nil {
		options = append(options, asynq.ProcessAt(time.Unix(*t.ProcessAt, 0)))
	}
	if t.ProcessIn != nil {
		options = append(options, asynq.ProcessIn(seconds(*t.ProcessIn)))
	}
	if t.Retention != nil {
		options = append(options, asynq.Retention(seconds(*t.Retention)))
	}
	if t.Group != nil {
		options = append(options, asynq.Group(*t.Group))
	}
	return options
}

func ask(redis asynq.RedisConnOpt, input io.Reader, output io.Writer) error {
	client, inspector := asynq.NewClient(redis), asynq.NewInspector(redis)
	defer client.Close()
	defer inspector.Close()
	questions, written := json.NewDecoder(bufio.NewReader(input)), bufio.NewWriter(output)
	answers := json.NewEncoder(written)
	for questions.More() {
		var asked question
		if err := questions.Decode(&asked); err != nil {
			return err
		}
		var given any
		if asked.Inspect != "" {
			given = inspect(inspector, asked.Inspect, asked.Arguments)
		} else {
			given = enqueue(client, asked.Enqueue)
		}
		if err := answers.Encode(given); err != nil {
			return err
		}
		if err := written.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func enqueue(client *asynq.Client, tasks []task) []any {
	given := make([]any, len(tasks))
	var workers sync.WaitGroup
	for first := range min(atOnce, len(tasks)) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for index := first; index < len(tasks); index += atOnce {
				one := tasks[index]
				made := asynq.NewTaskWithHeaders(one.Type, one.Payload, one.Headers)
				info, err := client.Enqueue(made, one.options()...)
				given[index] = answer(info, err)
			}
		}()
	}
	workers.Wait()
	return given
}

// inspect calls a method of the inspector by its name.
func inspect(inspector *asynq.Inspector, name string, arguments []json.RawMessage) any {
	method := reflect.ValueOf(inspector).MethodByName(name)
	if !method.IsValid() {
		return failed(fmt.Errorf("no method %q", name))
	}
	kind := method.Type()
	var given []reflect.Value
	for index, argument := range arguments {
		if kind.IsVariadic() && index >= kind.NumIn()-1 { // {"size": 2, "page": 1}
			var page struct{ Size, Page int }
			if err := json.Unmarshal(argument, &page); err != nil {
				return failed(err)
			}
			given = append(given, reflect.ValueOf(asynq.PageSize(page.Size)), reflect.ValueOf(asynq.Page(page.Page)))
			continue
		}
		value := reflect.New(kind.In(index))
		if err := json.Unmarshal(argument, value.Interface()); err != nil {
			return failed(err)
		}
		given = append(given, value.Elem())
	}
	results := method.Call(given)
	last := results[len(results)-1]
	err, _ := last.Interface().(error)
	if len(results) == 1 {
		return answer(struct{}{}, err)
	}
	return answer(results[0].Interface(), err)
}

func failed(err error) any {
	return map[string]string{"error": err.Error()}
}

// answer is what JSON can say of a result.
func answer(result any, err error) any {
	if err != nil {
		return failed(err)
	}
	switch found := result.(type) {
	case *asynq.TaskInfo:
		return described(found)
	case []*asynq.TaskInfo:
		all := []any{}
		for _, info := range found {
			all = append(all, described(info))
		}
		return all
	case []*asynq.SchedulerEntry:
		all := []any{}
		for _, entry := range found {
			options := []string{}
			for _, option := range entry.Opts {
				options = append(options, option.String())
			}
			all = append(all, map[string]any{
				"ID": entry.ID, "Spec": entry.Spec, "Type": entry.Task.Type(), "Payload": entry.Task.Payload(),
				"Options": options, "Next": entry.Next, "Prev": entry.Prev,
			})
		}
		return all
	}
	return result
}

// described names the state of a task; asynq's own JSON has a number.
func described(info *asynq.TaskInfo) any {
	return struct {
		*asynq.TaskInfo
		State string
	}{info, info.State.String()}
}
